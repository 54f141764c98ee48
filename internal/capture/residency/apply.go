package residency

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/tensor"
)

// ErrWithheld is that of a record that must not leave. The error that wraps it says why.
var ErrWithheld = errors.New("the residency policy keeps it here")

// Apply makes of r what may leave of it, or fails with ErrWithheld, and then r is not to
// be used any more. It changes r's tensors in place, their bytes too, which must be the
// caller's own.
func (p *Policy) Apply(r *format.Record) error {
	rule := p.rule(r.Model)
	if rule == nil || !rule.Samples {
		return fmt.Errorf("%w: samples of model %s are not allowed to leave", ErrWithheld, r.Model)
	}
	if rule.IDs == Hash {
		r.ID = p.keyed("id", r.ID)
		if r.InferenceID != "" {
			r.InferenceID = p.keyed("id", r.InferenceID)
		}
	}
	if r.Truth != nil {
		if rule.Truth != Allow {
			return fmt.Errorf("%w: outcomes for model %s are not allowed to leave", ErrWithheld, r.Model)
		}
		return nil
	}
	if rule.Auxiliary != Allow {
		r.AuxiliaryInputs, r.AuxiliaryOutputs = nil, nil
	}
	var err error
	if r.Inputs, err = p.tensors(rule, r.Model, r.Inputs, rule.Otherwise, true); err != nil {
		return err
	}
	if r.Outputs, err = p.tensors(rule, r.Model, r.Outputs, rule.Outputs, false); err != nil {
		return err
	}
	return nil
}

// tensors are what may leave of the inputs or the outputs.
func (p *Policy) tensors(rule *modelRule, model string, all []format.Tensor, otherwise Action, inputs bool) ([]format.Tensor, error) {
	kept := make([]format.Tensor, 0, len(all))
	for i := range all {
		t := &all[i]
		t.Columns = nil
		first := inputs && i == 0
		features := rule.featuresOf(t.Name, first)
		if len(features) == 0 && otherwise == Drop {
			continue
		}
		t.Opaque = t.Check() != nil
		if first && len(rule.Columns) > 0 {
			if _, columns, ok := t.Table(); !ok || columns != len(rule.Columns) {
				return nil, fmt.Errorf("%w: input %q of model %s has the shape %v, and the policy names %d columns", ErrWithheld, t.Name, model, t.Shape, len(rule.Columns))
			}
		}
		keep, err := p.tensor(rule, model, t, features, otherwise, first)
		if err != nil {
			return nil, err
		}
		if keep {
			kept = append(kept, *t)
		}
	}
	return kept, nil
}

// featuresOf are the rules for a tensor, by column.
func (r *modelRule) featuresOf(name string, first bool) map[int]FeatureRule {
	named := r.features[name]
	if name == "" || !first || len(r.features[""]) == 0 {
		return named
	}
	if len(named) == 0 {
		return r.features[""]
	}
	both := map[int]FeatureRule{}
	for column, f := range named {
		both[column] = f
	}
	for column, f := range r.features[""] {
		if _, twice := both[column]; !twice {
			both[column] = f
		}
	}
	return both
}

// tensor makes of t what may leave of it, if anything may.
func (p *Policy) tensor(rule *modelRule, model string, t *format.Tensor, features map[int]FeatureRule, otherwise Action, first bool) (bool, error) {
	base := FeatureRule{Action: otherwise}
	if whole, ok := features[wholeTensor]; ok {
		base = whole
	}
	rowCount, columns, table := t.Table()
	if !table {
		return p.whole(model, t, base, features)
	}
	for column := range features {
		if column != wholeTensor && column >= columns {
			return false, fmt.Errorf("%w: tensor %q of model %s has %d columns, and the policy has a rule for column %d", ErrWithheld, t.Name, model, columns, column)
		}
	}
	if columns > maxColumns {
		return false, fmt.Errorf("%w: tensor %q of model %s has %d columns, and at most %d can be judged", ErrWithheld, t.Name, model, columns, maxColumns)
	}
	t.Columns = make([]format.Column, columns)
	keep := make([]bool, columns)
	kept := 0
	for c := range columns {
		name := t.Name
		switch {
		case first && len(rule.Columns) > 0:
			name = rule.Columns[c]
		case columns > 1:
			name += "_" + strconv.Itoa(c)
		}
		t.Columns[c].Name = name
		f, ok := features[c]
		if !ok {
			f = base
		}
		if keep[c] = f.Action != Drop; keep[c] {
			kept++
			p.column(f, model, t, c, rowCount, columns)
		}
	}
	if kept == 0 {
		return false, nil
	}
	if kept < columns {
		narrow(t, keep, kept, rowCount, columns)
	}
	return true, nil
}

// whole judges a tensor that is no table, as one feature.
func (p *Policy) whole(model string, t *format.Tensor, f FeatureRule, features map[int]FeatureRule) (bool, error) {
	for column := range features {
		if column != wholeTensor {
			return false, fmt.Errorf("%w: tensor %q of model %s has the shape %v and %d bytes, which is no table, and the policy has rules for its columns", ErrWithheld, t.Name, model, t.Shape, len(t.Data))
		}
	}
	if f.Action != Allow && f.Action != Drop {
		return false, fmt.Errorf("%w: tensor %q of model %s has the shape %v and %d bytes, which is no table: it can be allowed or dropped, not changed", ErrWithheld, t.Name, model, t.Shape, len(t.Data))
	}
	return f.Action == Allow, nil
}

// column makes of a column what may leave of it.
func (p *Policy) column(f FeatureRule, model string, t *format.Tensor, column, rowCount, columns int) {
	if f.Action == Allow {
		return
	}
	c := &t.Columns[column]
	if f.Action == Hash {
		c.Text = make([]string, rowCount)
	}
	var scratch [32]byte
	for row := range rowCount {
		element := t.Element(row*columns + column)
		if f.Action == Hash {
			if text := format.AppendElement(scratch[:0], element, t.DType); string(text) != "nan" {
				c.Text[row] = p.keyed("value", model, c.Name, string(text))
			}
			clear(element)
			continue
		}
		v := format.Float(element, t.DType)
		if math.IsNaN(v) {
			// A NaN carries bits that nobody looks at; only one of them says "missing".
			v = math.NaN()
		} else if f.Action == Bucket {
			v = bucket(v, f.Bounds)
		} else {
			v = truncate(v, f.Digits)
		}
		put(element, t.DType, v)
	}
}

func bucket(v float64, bounds []float64) float64 {
	i, found := slices.BinarySearch(bounds, v)
	if found {
		return v
	}
	return bounds[max(i-1, 0)]
}

// truncate cuts decimals in the decimal form of the number, because most have no other
// exact one.
func truncate(v float64, digits int) float64 {
	if math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, math.Abs(float64(digits)))
	if digits < 0 {
		return math.Trunc(v/scale) * scale
	}
	if scaled := v * scale; math.IsInf(scaled, 0) {
		return v // so large a number has no decimals
	}
	return math.Trunc(v*scale) / scale
}

// put writes v as an element, as near as its type comes.
func put(element []byte, d tensor.DType, v float64) {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	switch d {
	case tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64:
	case tensor.Bool:
		text = strconv.FormatBool(v != 0)
	default:
		text = strconv.FormatFloat(math.Trunc(v), 'f', 0, 64)
	}
	out, err := rows.AppendNumber(element[:0:len(element)], d, text)
	if err != nil || len(out) != len(element) {
		// A bound that the type cannot hold says nothing of the value.
		clear(element)
	}
}

// narrow takes the columns out of t that are not kept.
func narrow(t *format.Tensor, keep []bool, kept, rowCount, columns int) {
	size := t.DType.Size()
	out := t.Data[:0]
	for row := range rowCount {
		for c := range columns {
			if keep[c] {
				at := (row*columns + c) * size
				out = append(out, t.Data[at:at+size]...)
			}
		}
	}
	clear(t.Data[len(out):]) // what was dropped is nowhere any more
	t.Data = out
	left := t.Columns[:0]
	for c, column := range t.Columns {
		if keep[c] {
			left = append(left, column)
		}
	}
	t.Columns = left
	t.Shape = []int64{int64(rowCount), int64(kept)}
}

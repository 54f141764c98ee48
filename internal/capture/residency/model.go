package residency

import (
	"errors"
	"fmt"
)

// TensorSpec is what a model says of one of its tensors; the first dimension is rows.
type TensorSpec struct {
	Name string
	Dims []int64
}

// columns are those of a table, and 0 for what is none.
func (s TensorSpec) columns() int {
	switch len(s.Dims) {
	case 1:
		return 1
	case 2:
		return int(s.Dims[1])
	}
	return 0
}

// CheckModel finds what the policy says of tensors and columns that a model does not
// have. A policy for all models is held to none.
func (p *Policy) CheckModel(name string, inputs, outputs []TensorSpec) error {
	r := p.rules[name]
	if r == nil || !r.Samples || len(inputs) == 0 {
		return nil
	}
	var mistakes []error
	if n := inputs[0].columns(); len(r.Columns) > 0 && n != len(r.Columns) {
		mistakes = append(mistakes, fmt.Errorf("columns names %d for model %s, whose input %q has %d", len(r.Columns), name, inputs[0].Name, n))
	}
	for tensor, features := range r.features {
		spec, ok := inputs[0], true
		if tensor != "" {
			spec, ok = find(tensor, inputs, outputs)
		}
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("model %s has no tensor %q, for which there is a rule", name, tensor))
			continue
		}
		for column := range features {
			if n := spec.columns(); column >= n && column != wholeTensor {
				mistakes = append(mistakes, fmt.Errorf("tensor %q of model %s has %d columns, and there is a rule for column %d", spec.Name, name, n, column))
			}
		}
	}
	return errors.Join(mistakes...)
}

func find(name string, sides ...[]TensorSpec) (TensorSpec, bool) {
	for _, side := range sides {
		for _, s := range side {
			if s.Name == name {
				return s, true
			}
		}
	}
	return TensorSpec{}, false
}

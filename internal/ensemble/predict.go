package ensemble

import (
	"fmt"
	"math"
)

// LeafOf is the node at which a row of NumFeature values ends in tree t.
func (t *Tree) LeafOf(row []float32) int32 {
	i := int32(0)
	for t.Nodes[i].Op != Leaf {
		n := &t.Nodes[i]
		if t.GoesLeft(n, row[n.Feature]) {
			i = n.Left
		} else {
			i = n.Right
		}
	}
	return i
}

// GoesLeft tells whether a row with the value v of its feature goes to the left child of the split n.
func (t *Tree) GoesLeft(n *Node, v float32) bool {
	x := float64(v)
	if n.Op == SetLeft { // LightGBM: NaN and what is no category are outside every set
		return x > -1 && x < math.MaxInt32 && t.InSet(n.Set, uint32(x))
	}
	switch {
	case x != x:
		if n.Missing != MissingNone {
			return n.DefaultLeft
		}
		x = 0
	case n.Missing == MissingZero && v >= -ZeroThreshold && v <= ZeroThreshold:
		return n.DefaultLeft
	}
	switch n.Op {
	case Less:
		return x < n.Value
	case LessEqual:
		return x <= n.Value
	}
	// SetRight: XGBoost takes only the set's own categories to the right.
	return !(x >= 0 && x < 1<<24 && t.InSet(n.Set, uint32(x)))
}

// Margin64 writes the Groups margins of a row of NumFeature values to out, before any transform: LightGBM's raw
// scores in float64. XGBoost's float32 margins come out unchanged. NaN is a missing value.
func (e *Ensemble) Margin64(row []float32, out []float64) error {
	if len(row) != e.NumFeature || len(out) != e.Groups {
		return fmt.Errorf("scoring a row: got %d values and room for %d margins; the model has %d features and %d groups",
			len(row), len(out), e.NumFeature, e.Groups)
	}
	for g := range out {
		out[g] = 0
		if !e.BaseLast {
			out[g] = float64(e.BaseMargin[g])
		}
	}
	for i := range e.Trees {
		t := &e.Trees[i]
		v := t.Nodes[t.LeafOf(row)].Value
		if e.Wide() {
			out[t.Group] += v
			continue
		}
		// The conversions round every step to float32 and keep the compiler from fusing them.
		leaf := float32(float32(v) * t.Scale)
		out[t.Group] = float64(float32(out[t.Group]) + leaf)
	}
	for g := range out {
		if e.BaseLast {
			out[g] = float64(float32(out[g]) + e.BaseMargin[g])
		}
	}
	return nil
}

// Margin is Margin64 with each margin rounded once to float32, which changes nothing for XGBoost.
func (e *Ensemble) Margin(row []float32, out []float32) error {
	m := make([]float64, e.Groups)
	if len(out) != e.Groups {
		return fmt.Errorf("scoring a row: there is room for %d margins; the model has %d groups", len(out), e.Groups)
	}
	if err := e.Margin64(row, m); err != nil {
		return err
	}
	for g := range m {
		out[g] = float32(m[g])
	}
	return nil
}

// Predict writes the Outputs predictions of a row of NumFeature values to out. The transform is computed in the
// trainer's precision: float32 for XGBoost, float64 and one rounding at the end for LightGBM.
func (e *Ensemble) Predict(row []float32, out []float32) error {
	if len(out) != e.Outputs() {
		return fmt.Errorf("scoring a row: there is room for %d predictions; the model gives %d", len(out), e.Outputs())
	}
	m := make([]float64, e.Groups)
	if err := e.Margin64(row, m); err != nil {
		return err
	}
	e.Transform(m, e.Rounds())
	for i := range out {
		out[i] = float32(m[i])
	}
	return nil
}

// apply64 transforms margins in place as LightGBM does.
func (o *Objective) apply64(m []float64) {
	switch o.Transform {
	case Softmax:
		top, sum := m[0], 0.0
		for _, x := range m[1:] {
			top = math.Max(top, x)
		}
		for g := range m {
			m[g] = Exp(m[g] - top)
			sum += m[g]
		}
		for g := range m {
			m[g] /= sum
		}
		return
	case MaxIndex:
		m[0] = maxIndex(m)
		return
	}
	for g, x := range m {
		switch o.Transform {
		case Sigmoid:
			// float64 keeps the product from being fused with what Exp does with it.
			m[g] = 1 / (1 + Exp(float64(-o.SigmoidAlpha*x)))
		case Exponential:
			m[g] = Exp(x)
		case SignedSquare:
			m[g] = math.Copysign(x*x, x)
		case LogOnePlusExp:
			m[g] = math.Log1p(Exp(x))
		}
	}
}

// apply32 transforms margins, which hold float32 values, in place as XGBoost does.
func (o *Objective) apply32(m []float64) {
	exp := func(x float32) float32 { return float32(Exp(float64(x))) }
	switch o.Transform {
	case Softmax:
		top, sum := m[0], 0.0
		for _, x := range m[1:] {
			top = math.Max(top, x)
		}
		for g := range m {
			m[g] = float64(exp(float32(m[g]) - float32(top)))
			sum += m[g]
		}
		for g := range m {
			m[g] = float64(float32(m[g]) / float32(sum))
		}
		return
	case MaxIndex:
		m[0] = maxIndex(m)
		return
	}
	for g := range m {
		x := float32(m[g])
		switch o.Transform {
		case Sigmoid: // 88.7 is XGBoost's own bound against overflow
			x = 1 / (exp(min(-x, 88.7)) + 1)
		case Exponential:
			x = exp(x)
		case Hinge:
			if x > 0 {
				x = 1
			} else {
				x = 0
			}
		}
		m[g] = float64(x)
	}
}

// maxIndex is the index of the first greatest margin.
func maxIndex(m []float64) float64 {
	best := 0
	for g := range m {
		if m[g] > m[best] {
			best = g
		}
	}
	return float64(best)
}

package ensemble

import (
	"fmt"
	"math"
)

// scores fills in what the sums mean: groups, classes, targets, base margins and transform, as ONNX Runtime treats them.
// The cases of two classes are its own, not the standard's.
func (a *onnxTrees) scores(e *Ensemble, limit int) error {
	e.Objective = Objective{Name: a.postTransform, SigmoidAlpha: 1}
	switch a.postTransform {
	case "NONE":
	case "LOGISTIC":
		e.Objective.Transform = Sigmoid
	case "SOFTMAX":
		e.Objective.Transform = Softmax
	default:
		return unsupported("post_transform %s is not supported; NONE, LOGISTIC and SOFTMAX are", quote(a.postTransform))
	}
	n := a.targets
	if a.classifier {
		n = len(a.labels)
		e.ClassLabels = a.labels
		if a.aggregate != "SUM" {
			return unsupported("a classifier has an aggregate function")
		}
	}
	switch {
	case n < 1 || n > limit:
		return fmt.Errorf("it has %d classes or targets; 1 to %d are supported", n, limit)
	case a.classifier && n == 1:
		return unsupported("a classifier of one class is not supported")
	}
	e.Groups = n
	switch {
	case a.classifier && n == 2:
		if err := a.twoClasses(e); err != nil {
			return err
		}
	case a.classifier && len(a.base) > n, !a.classifier && len(a.base) != n && len(a.base) != 0:
		return fmt.Errorf("base_values has %d entries for %d classes or targets", len(a.base), n)
	case !a.classifier && n == 1: // a single target is never transformed
		e.Objective.Transform = Identity
	}
	if a.classifier && e.Groups > 1 {
		e.Classes = e.Groups
	} else if !a.classifier {
		e.Targets = n
	}
	e.BaseScore, e.BaseMargin = make([]float32, e.Groups), make([]float32, e.Groups)
	for g, v := range a.base {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("base value %d is %v", g, v)
		}
		if !a.double {
			e.BaseScore[g], e.BaseMargin[g] = float32(v), float32(v)
		}
	}
	return nil
}

// twoClasses decides between one score, that of the second class, and two.
func (a *onnxTrees) twoClasses(e *Ensemble) error {
	var used [2]bool
	positive := true
	for w, g := range a.weightGroups {
		if g < 0 || g > 1 {
			return fmt.Errorf("a leaf adds to class %d; there are 2", g)
		}
		used[g] = true
		positive = positive && a.weights[w] >= 0
	}
	switch {
	case len(a.base) > 1, used[1] && !used[0]:
		return unsupported("%d base values for two classes, or scores for the second class alone, are not supported: ONNX Runtime's versions disagree about them", len(a.base))
	case used[1]:
		return nil
	}
	// One score s. ONNX Runtime gives 1 - s and s when no weight is negative, whatever the transform; otherwise, without
	// LOGISTIC, -s and s.
	e.Groups = 1
	if positive || e.Objective.Transform != Sigmoid {
		e.Objective.Transform = Identity
	}
	return nil
}

// mustScore says whether ONNX Runtime's answer depends on whether a row has a score for group g at all: it adds no base
// value where there is none (but for classifiers of more than two classes), and gives another number of columns where
// the second of two classes has none.
func (a *onnxTrees) mustScore(e *Ensemble, g int) bool {
	if a.classifier && len(a.labels) > 2 {
		return false
	}
	return g < len(a.base) && a.base[g] != 0 || a.classifier && g == 1
}

// finish fills in what depends on all trees; n is how many the file has.
func (a *onnxTrees) finish(e *Ensemble, n int) error {
	base := false
	for g, v := range a.base {
		base = base || v != 0
		if a.double && v != 0 { // as a tree of one leaf, because margins of float32 could not hold it
			e.Trees = append(e.Trees, Tree{Group: g, Scale: 1, Nodes: []Node{{Value: v, Left: -1, Right: -1, Set: -1}}})
		}
	}
	switch a.aggregate {
	case "SUM":
	case "AVERAGE":
		if base || len(e.Trees) != n*e.Groups {
			return unsupported("aggregate_function AVERAGE is supported only without base values and with trees that score every target")
		}
		e.Average = true
	default:
		return unsupported("aggregate_function %s is not supported; SUM and AVERAGE are", quote(a.aggregate))
	}
	return nil
}

// applyONNX transforms margins in place as ONNX Runtime does: in float32, whatever the margins were added in.
func (o *Objective) applyONNX(m []float64) {
	exp := func(x float32) float32 { return float32(Exp(float64(x))) }
	top := float32(-math.MaxFloat32)
	for g := range m {
		m[g] = float64(float32(m[g]))
		top = max(top, float32(m[g]))
	}
	switch o.Transform {
	case Sigmoid:
		for g := range m {
			x := float32(m[g])
			y := 1 / (1 + exp(float32(-math.Abs(float64(x)))))
			if x < 0 {
				y = 1 - y
			}
			m[g] = float64(y)
		}
	case Softmax:
		sum := float32(0)
		for g := range m {
			e := exp(float32(m[g]) - top)
			m[g] = float64(e)
			sum += e
		}
		for g := range m {
			m[g] = float64(float32(m[g]) / sum)
		}
	}
}

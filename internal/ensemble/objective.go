package ensemble

import (
	"fmt"
	"math"
)

// Transform turns margins into predictions.
type Transform uint8

// The transforms, in the words compiled artifacts use for them (String).
const (
	Identity      Transform = iota
	Sigmoid                 // 1 / (1 + exp(-SigmoidAlpha * x)), each group on its own
	Exponential             // exp(x)
	Softmax                 // over the groups
	MaxIndex                // index of the first greatest group: one output
	Hinge                   // 1 if x > 0, else 0
	SignedSquare            // x * |x|
	LogOnePlusExp           // log(1 + exp(x))
)

// String is the name of the transform in a compiled artifact (get_pred_transform).
func (t Transform) String() string {
	switch t {
	case Identity:
		return "identity"
	case Sigmoid:
		return "sigmoid"
	case Exponential:
		return "exponential"
	case Softmax:
		return "softmax"
	case MaxIndex:
		return "max_index"
	case Hinge:
		return "hinge"
	case SignedSquare:
		return "signed_square"
	case LogOnePlusExp:
		return "logarithm_one_plus_exp"
	}
	return "unknown"
}

// Objective is what the model was trained for, as far as predictions depend on it.
type Objective struct {
	Name         string // as in the file: "binary:logistic", "multiclass"; empty for a custom LightGBM objective
	Transform    Transform
	SigmoidAlpha float64 // factor of Sigmoid; 1 except for LightGBM's sigmoid parameter
}

// xgboostObjective maps an objective of XGBoost's major version to its transform and to how it turns a base score into
// a margin.
func xgboostObjective(name string, major int32) (o Objective, toMargin func(float32) float32, err error) {
	o = Objective{Name: name, SigmoidAlpha: 1}
	same := func(p float32) float32 { return p }
	logit := func(p float32) float32 { return -float32(math.Log(float64(1/p - 1))) }
	log := func(p float32) float32 { return float32(math.Log(float64(p))) }
	switch name {
	case "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
		"reg:quantileerror", "reg:expectileerror", "rank:pairwise", "rank:ndcg", "rank:map":
		return o, same, nil
	case "binary:logistic", "reg:logistic":
		o.Transform = Sigmoid
		return o, logit, nil
	case "binary:logitraw":
		if major >= 2 { // since 2.0 the base score of this objective is a margin already
			return o, same, nil
		}
		return o, logit, nil
	case "binary:hinge":
		o.Transform = Hinge
		return o, same, nil
	case "count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft":
		o.Transform = Exponential
		return o, log, nil
	case "multi:softprob":
		o.Transform = Softmax
		return o, same, nil
	case "multi:softmax":
		o.Transform = MaxIndex
		return o, same, nil
	}
	return o, nil, unsupported("objective %s is not one Picket knows: its transform would be a guess", quote(name))
}

// quote shortens text from a file for an error message.
func quote(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%.60q...", s)
	}
	return fmt.Sprintf("%q", s)
}

package ensemble

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// lgbModel is a LightGBM text file as read: lines of key=value, first the model's, then those of each tree.
type lgbModel struct {
	limits Limits
	budget *setBudget
	header map[string]string
	trees  []Tree
	// numFeature is known from the header, before the first tree.
	numFeature int
}

// readLightGBM reads the text model of LightGBM 2.x to 4.x (formats v2 to v4).
func readLightGBM(data []byte, l Limits) (*Ensemble, error) {
	m := &lgbModel{limits: l, budget: newSetBudget(len(data)), header: map[string]string{}}
	lines := &lineReader{rest: data}
	e := &Ensemble{Library: LightGBM, Format: "text", ParallelTrees: 1, Targets: 1}
	lines.next() // "tree", by which the format was recognised
	line, more := lines.next()
	for ; more && !bytes.HasPrefix(line, []byte("Tree=")); line, more = lines.next() {
		if string(line) == "end of trees" {
			break
		}
		if string(line) == "average_output" {
			e.Average = true
			continue
		}
		key, value, ok := strings.Cut(string(line), "=")
		if !ok && key != "" {
			return nil, fmt.Errorf("line %d: %s is not key=value", lines.number, quote(key))
		}
		if len(m.header) > 64 {
			return nil, errors.New("it has more than 64 lines before the first tree")
		}
		if _, again := m.header[key]; again && key != "" {
			return nil, fmt.Errorf("line %d: %s is there twice", lines.number, quote(key))
		}
		m.header[key] = value
	}
	if err := m.head(e); err != nil {
		return nil, err
	}
	for more && bytes.HasPrefix(line, []byte("Tree=")) {
		if n := strconv.Itoa(len(m.trees)); string(line[len("Tree="):]) != n {
			return nil, fmt.Errorf("line %d: %s found where Tree=%s should be", lines.number, quote(string(line)), n)
		}
		if len(m.trees) >= l.Trees {
			return nil, fmt.Errorf("there are more than %d trees", l.Trees)
		}
		fields := map[string][]byte{}
		for line, more = lines.next(); more && len(line) > 0 && line[0] != 'T' && string(line) != "end of trees"; line, more = lines.next() {
			key, value, ok := bytes.Cut(line, []byte("="))
			if !ok || len(fields) > 64 {
				return nil, fmt.Errorf("line %d: %s does not belong into a tree", lines.number, quote(string(line)))
			}
			if _, again := fields[string(key)]; again {
				return nil, fmt.Errorf("line %d: %s is there twice", lines.number, quote(string(key)))
			}
			fields[string(key)] = value
		}
		t, err := m.tree(fields)
		if err != nil {
			return nil, fmt.Errorf("tree %d: %w", len(m.trees), err)
		}
		t.Group = len(m.trees) % e.Groups
		m.trees = append(m.trees, t)
		for more && len(line) == 0 {
			line, more = lines.next()
		}
	}
	if !more || string(line) != "end of trees" {
		return nil, fmt.Errorf("line %d: \"end of trees\" is missing: the file is cut short or damaged", lines.number)
	}
	if len(m.trees)%e.Groups != 0 {
		return nil, fmt.Errorf("there are %d trees, which is no multiple of num_tree_per_iteration, %d", len(m.trees), e.Groups)
	}
	if e.Average && len(m.trees) == 0 {
		return nil, errors.New("it averages over its trees but has none")
	}
	e.Trees = m.trees
	return e, nil
}

// lineReader gives one line after the other, without line ends.
type lineReader struct {
	rest   []byte
	number int
}

func (r *lineReader) next() ([]byte, bool) {
	if len(r.rest) == 0 {
		return nil, false
	}
	r.number++
	line, rest, _ := bytes.Cut(r.rest, []byte("\n"))
	r.rest = rest
	return bytes.TrimSuffix(line, []byte("\r")), true
}

// head fills in what the lines before the trees say.
func (m *lgbModel) head(e *Ensemble) (err error) {
	h := m.header
	e.Version = h["version"]
	switch e.Version {
	case "v2", "v3", "v4":
	case "":
		return errors.New("version is missing")
	default:
		return unsupported("its format version is %s; v2, v3 and v4 are supported", quote(e.Version))
	}
	highest, err := intParam(h, "max_feature_idx", -1, 0, m.limits.Features-1)
	if err != nil {
		return err
	}
	if highest < 0 {
		return errors.New("max_feature_idx is missing")
	}
	e.NumFeature, m.numFeature = highest+1, highest+1
	classes, err := intParam(h, "num_class", 1, 1, m.limits.Groups)
	if err != nil {
		return err
	}
	if e.Groups, err = intParam(h, "num_tree_per_iteration", classes, 1, m.limits.Groups); err != nil {
		return err
	}
	if classes > 1 {
		e.Classes = classes
		if e.Groups != classes {
			return fmt.Errorf("num_tree_per_iteration is %d for %d classes", e.Groups, classes)
		}
	}
	e.BaseScore, e.BaseMargin = make([]float32, e.Groups), make([]float32, e.Groups)
	e.Booster = "gbdt"
	if e.Average {
		e.Booster = "rf"
	}
	if names := strings.Fields(h["feature_names"]); len(names) == e.NumFeature {
		e.FeatureNames = names
	} else if len(names) != 0 {
		return fmt.Errorf("feature_names has %d entries for %d features", len(names), e.NumFeature)
	}
	e.Objective, err = lightgbmObjective(h["objective"])
	if err != nil {
		return err
	}
	if e.Objective.Transform == Softmax && e.Classes < 2 {
		return fmt.Errorf("objective %s needs at least two classes, but num_class is %d", quote(h["objective"]), classes)
	}
	return nil
}

// lightgbmObjective reads the objective line: a name and parameters like "binary sigmoid:1".
func lightgbmObjective(line string) (Objective, error) {
	o := Objective{SigmoidAlpha: 1}
	words := strings.Fields(line)
	if len(words) == 0 {
		return o, nil // a custom objective: LightGBM gives the raw score
	}
	o.Name = words[0]
	squareRoot := false
	for _, w := range words[1:] {
		if w == "sqrt" {
			squareRoot = true
		}
		if text, ok := strings.CutPrefix(w, "sigmoid:"); ok {
			alpha, err := parseFloat64(text)
			if err != nil || !(alpha > 0) || math.IsInf(alpha, 1) {
				return o, fmt.Errorf("objective parameter %s is not a positive number", quote(w))
			}
			o.SigmoidAlpha = alpha
		}
	}
	switch o.Name {
	case "regression", "regression_l2", "l2", "mean_squared_error", "mse", "regression_l1", "huber", "fair", "quantile", "mape":
		if squareRoot {
			o.Transform = SignedSquare
		}
	case "lambdarank", "rank_xendcg", "custom":
	case "binary", "multiclassova":
		o.Transform = Sigmoid
	case "cross_entropy", "xentropy":
		o.Transform = Sigmoid
		o.SigmoidAlpha = 1
	case "cross_entropy_lambda", "xentlambda":
		o.Transform = LogOnePlusExp
	case "poisson", "gamma", "tweedie":
		o.Transform = Exponential
	case "multiclass", "softmax":
		o.Transform = Softmax
	default:
		return o, unsupported("objective %s is not one Picket knows: its transform would be a guess", quote(o.Name))
	}
	return o, nil
}

// parseFloat64 rounds decimal text once, to the nearest float64.
func parseFloat64(text string) (float64, error) {
	switch text {
	case "inf":
		return math.Inf(1), nil
	case "-inf":
		return math.Inf(-1), nil
	case "nan", "-nan":
		return math.NaN(), nil
	}
	if !decimal(text) {
		return 0, fmt.Errorf("%s is not a number", quote(text))
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of float64", quote(text))
	}
	return v, nil
}

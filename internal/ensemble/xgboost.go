package ensemble

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// xgbModel is an XGBoost document as read, before its parts are checked against each other: members come in any order
// (alphabetical in practice, so trees come before the number of features).
type xgbModel struct {
	limits  Limits
	budget  *setBudget
	version []int32
	seen    bool // a learner was found

	booster      string
	trees        []Tree
	ids          []int // the place each tree asks for
	info         []int32
	weightDrop   []float32
	maxFeature   int32
	vectorLeaf   bool
	baseIsMargin bool              // base_score is a margin already, as in binary files from before 1.0
	params       map[string]string // learner_model_param
	boosterParam map[string]string // gbtree_model_param
	objective    string
	names, types []string
}

// readXGBoost reads the document src, which is JSON or UBJSON as format says.
func readXGBoost(src source, format string, l Limits) (*Ensemble, error) {
	m := &xgbModel{limits: l, budget: newSetBudget(src.size()), maxFeature: -1}
	if err := m.document(src); err != nil {
		return nil, err
	}
	if err := src.end(); err != nil {
		return nil, err
	}
	if !m.seen {
		return nil, fmt.Errorf("%w: there is no learner in it", ErrFormat)
	}
	return m.ensemble(format)
}

func (m *xgbModel) document(src source) error {
	return src.object(once(func(key string) (err error) {
		switch key {
		case "version":
			m.version, err = src.ints()
		case "learner":
			if m.seen {
				return errors.New("it holds two learners")
			}
			m.seen = true
			err = m.learner(src)
		case "Model": // a whole snapshot, as pickles of 1.x carry it: the model beside its training configuration
			err = m.document(src)
		default:
			err = src.skip()
		}
		return err
	}))
}

func (m *xgbModel) learner(src source) error {
	return src.object(once(func(key string) (err error) {
		switch key {
		case "feature_names":
			m.names, err = m.strings(src)
		case "feature_types":
			m.types, err = m.strings(src)
		case "gradient_booster":
			err = m.gradientBooster(src)
		case "learner_model_param":
			m.params, err = parameters(src)
		case "objective":
			err = src.object(func(key string) (err error) {
				if key != "name" {
					return src.skip()
				}
				m.objective, err = src.text()
				return err
			})
		default:
			err = src.skip()
		}
		return err
	}))
}

func (m *xgbModel) strings(src source) (out []string, err error) {
	err = src.array(func(i int) error {
		if i >= m.limits.Features {
			return fmt.Errorf("there are more than %d feature names or types", m.limits.Features)
		}
		s, err := src.text()
		out = append(out, s)
		return err
	})
	return out, err
}

// parameters reads an object of texts. XGBoost has fewer than ten in each, so more are a sign of damage.
func parameters(src source) (map[string]string, error) {
	p := map[string]string{}
	err := src.object(func(key string) error {
		if _, again := p[key]; again {
			return fmt.Errorf("%s is there twice", quote(key))
		}
		v, err := src.text()
		p[key] = v
		if len(p) > 64 {
			return errors.New("there are more than 64 parameters")
		}
		return err
	})
	return p, err
}

// gradientBooster reads gbtree's {model, name} and dart's {gbtree: {model, name}, name, weight_drop}.
func (m *xgbModel) gradientBooster(src source) error {
	return src.object(once(func(key string) (err error) {
		switch key {
		case "name":
			m.booster, err = src.text()
		case "gbtree":
			err = src.object(func(key string) error {
				if key == "model" {
					return m.model(src)
				}
				return src.skip()
			})
		case "model":
			err = m.model(src)
		case "weight_drop":
			m.weightDrop, err = src.floats()
		default:
			err = src.skip()
		}
		return err
	}))
}

func (m *xgbModel) model(src source) error {
	return src.object(once(func(key string) (err error) {
		switch key {
		case "gbtree_model_param":
			m.boosterParam, err = parameters(src)
		case "tree_info":
			m.info, err = src.ints()
		case "trees":
			if m.trees != nil {
				return errors.New("it holds two lists of trees")
			}
			err = src.array(func(i int) error {
				if i >= m.limits.Trees {
					return fmt.Errorf("there are more than %d trees", m.limits.Trees)
				}
				if err := m.tree(src, i); err != nil {
					return fmt.Errorf("tree %d: %w", i, err)
				}
				return nil
			})
		default:
			err = src.skip()
		}
		return err
	}))
}

// ensemble checks the parts against each other and puts them together.
func (m *xgbModel) ensemble(format string) (*Ensemble, error) {
	e := &Ensemble{Library: XGBoost, Format: format, Booster: m.booster, FeatureNames: m.names, FeatureTypes: m.types}
	if len(m.version) == 0 { // never so in a file of XGBoost's own; read like the newest
		m.version = []int32{3, 0, 0}
	} else {
		if len(m.version) > 4 || m.version[0] < 1 || m.version[0] > 3 {
			return nil, unsupported("it says version %v of XGBoost; 1.0 to 3.x are supported", m.version[:min(len(m.version), 4)])
		}
		e.Version = strings.Trim(strings.ReplaceAll(fmt.Sprint(m.version), " ", "."), "[]")
	}
	switch m.booster {
	case "gbtree", "dart":
	case "":
		return nil, errors.New("the name of its booster is missing")
	case "gblinear":
		return nil, unsupported("booster gblinear is a linear model, not trees: it is not supported")
	default:
		return nil, unsupported("booster %s is not supported; gbtree and dart are", quote(m.booster))
	}
	minor := int32(0)
	if len(m.version) > 1 {
		minor = m.version[1]
	}
	e.BaseLast = m.version[0] == 1 && (minor < 3 || m.booster == "dart" && minor < 4)
	if m.vectorLeaf {
		return nil, unsupported("its trees have vector leaves (multi_strategy multi_output_tree), which are not supported; train with one_output_per_tree")
	}
	if err := m.sizes(e); err != nil {
		return nil, err
	}
	if err := m.base(e); err != nil {
		return nil, err
	}
	return e, m.place(e)
}

// intParam reads an integer parameter between low and high.
func intParam(p map[string]string, key string, missing, low, high int) (int, error) {
	text, ok := p[key]
	if !ok {
		return missing, nil
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < low || v > high {
		return 0, fmt.Errorf("%s is %s; it should be a number from %d to %d", key, quote(text), low, high)
	}
	return v, nil
}

// sizes fills in how many features, groups, classes, targets and parallel trees there are.
func (m *xgbModel) sizes(e *Ensemble) (err error) {
	if e.NumFeature, err = intParam(m.params, "num_feature", -1, 0, m.limits.Features); err != nil {
		return err
	}
	if e.NumFeature <= 0 {
		return errors.New("num_feature is missing or 0: the model was never trained")
	}
	if e.Classes, err = intParam(m.params, "num_class", 0, 0, m.limits.Groups); err != nil {
		return err
	}
	if e.Targets, err = intParam(m.params, "num_target", 1, 0, m.limits.Groups); err != nil {
		return err
	}
	if e.ParallelTrees, err = intParam(m.boosterParam, "num_parallel_tree", 1, 0, m.limits.Trees); err != nil {
		return err
	}
	e.Targets, e.ParallelTrees = max(e.Targets, 1), max(e.ParallelTrees, 1)
	if e.Classes > 1 && e.Targets > 1 {
		return unsupported("a model with several classes and several targets is not supported")
	}
	if e.Classes == 1 {
		e.Classes = 0
	}
	e.Groups = max(e.Classes, e.Targets)
	if int(m.maxFeature) >= e.NumFeature {
		return fmt.Errorf("a tree splits on feature %d, but num_feature is %d", m.maxFeature, e.NumFeature)
	}
	for what, names := range map[string][]string{"feature_names": m.names, "feature_types": m.types} {
		if n := len(names); n != 0 && n != e.NumFeature {
			return fmt.Errorf("%s has %d entries, but num_feature is %d", what, n, e.NumFeature)
		}
	}
	return nil
}

// base fills in the objective and the intercepts. base_score is "5E-1" up to version 3.0 and "[5E-1]", with one value
// or one per group, since 3.1; both in the space of the label.
func (m *xgbModel) base(e *Ensemble) error {
	objective, toMargin, err := xgboostObjective(m.objective, m.version[0])
	if err != nil {
		return err
	}
	if m.baseIsMargin {
		toMargin = func(score float32) float32 { return score }
	}
	e.Objective = objective
	if t := objective.Transform; (t == Softmax || t == MaxIndex) && e.Classes < 2 {
		return fmt.Errorf("objective %s needs at least two classes, but num_class is %d", objective.Name, e.Classes)
	}
	text, ok := m.params["base_score"]
	if !ok {
		return errors.New("base_score is missing")
	}
	inner, opened := strings.CutPrefix(text, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	scores := strings.Split(inner, ",")
	if opened != closed || len(scores) != 1 && len(scores) != e.Groups {
		return fmt.Errorf("base_score is %s; it should be one number, or one for each of the %d groups", quote(text), e.Groups)
	}
	e.BaseScore, e.BaseMargin = make([]float32, e.Groups), make([]float32, e.Groups)
	for g := range e.BaseScore {
		score, err := parseFloat32(strings.TrimSpace(scores[min(g, len(scores)-1)]))
		if err != nil {
			return fmt.Errorf("base_score: %w", err)
		}
		margin := toMargin(score)
		if math.IsNaN(float64(margin)) || math.IsInf(float64(margin), 0) {
			return fmt.Errorf("base_score %v has no margin for objective %s", score, objective.Name)
		}
		e.BaseScore[g], e.BaseMargin[g] = score, margin
	}
	return nil
}

// place puts the trees into the order of their ids and gives each its group and scale.
func (m *xgbModel) place(e *Ensemble) error {
	n := len(m.trees)
	if want, err := intParam(m.boosterParam, "num_trees", n, 0, math.MaxInt32); err != nil {
		return err
	} else if want != n {
		return fmt.Errorf("num_trees is %d, but there are %d trees", want, n)
	}
	if len(m.info) != n {
		return fmt.Errorf("tree_info has %d entries for %d trees", len(m.info), n)
	}
	if m.booster == "dart" && len(m.weightDrop) != n {
		return fmt.Errorf("weight_drop has %d entries for %d trees", len(m.weightDrop), n)
	}
	e.Trees = make([]Tree, n)
	for i, id := range m.ids {
		if id < 0 || id >= n || e.Trees[id].Nodes != nil {
			return fmt.Errorf("tree %d has id %d, which is out of range or taken", i, id)
		}
		e.Trees[id] = m.trees[i]
	}
	for i := range e.Trees {
		t := &e.Trees[i]
		if g := m.info[i]; g < 0 || int(g) >= e.Groups {
			return fmt.Errorf("tree %d belongs to group %d, but there are %d", i, g, e.Groups)
		}
		t.Group, t.Scale = int(m.info[i]), 1
		if m.booster == "dart" {
			if t.Scale = m.weightDrop[i]; math.IsNaN(float64(t.Scale)) {
				return fmt.Errorf("tree %d has the weight NaN", i)
			}
		}
	}
	return nil
}

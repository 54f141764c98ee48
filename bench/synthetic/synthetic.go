// Package synthetic makes models and rows for benchmarks out of random numbers, the same everywhere, so that nothing has to be
// trained or fetched for a measurement.
package synthetic

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// Model is full trees of XGBoost's form, which cost a kernel what trained ones of that size do. Equal models have equal trees.
type Model struct {
	Name     string `yaml:"name"`
	Trees    int    `yaml:"trees"`
	Depth    int    `yaml:"depth"`
	Features int    `yaml:"features"`
}

var name = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// mostNodes bounds a model, to some hundred megabytes as a file.
const mostNodes = 1 << 22

// Check refuses what cannot be made.
func (m Model) Check() error {
	switch {
	case !name.MatchString(m.Name):
		return fmt.Errorf("%q is no name of a model: it takes up to 63 small letters, digits and hyphens", m.Name)
	case m.Depth < 1 || m.Depth > 16:
		return fmt.Errorf("model %s: depth %d is not from 1 to 16", m.Name, m.Depth)
	case m.Trees < 1 || m.Trees > mostNodes>>m.Depth:
		return fmt.Errorf("model %s: %d trees are not from 1 to %d", m.Name, m.Trees, mostNodes>>m.Depth)
	case m.Features < 1 || m.Features > 1<<16:
		return fmt.Errorf("model %s: %d features are not from 1 to %d", m.Name, m.Features, 1<<16)
	}
	return nil
}

// real is a number that XGBoost takes for one: it refuses 1 where it wants 1E+00.
type real float32

// MarshalJSON implements json.Marshaler.
func (r real) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(r), 'E', -1, 32), nil
}

// tree is one tree of XGBoost's JSON.
type tree struct {
	BaseWeights     []real `json:"base_weights"`
	Categories      []int  `json:"categories"`
	CategoryNodes   []int  `json:"categories_nodes"`
	CategorySegment []int  `json:"categories_segments"`
	CategorySizes   []int  `json:"categories_sizes"`
	DefaultLeft     []int  `json:"default_left"`
	ID              int    `json:"id"`
	Left            []int  `json:"left_children"`
	LossChanges     []real `json:"loss_changes"`
	Parents         []int  `json:"parents"`
	Right           []int  `json:"right_children"`
	Conditions      []real `json:"split_conditions"`
	Indices         []int  `json:"split_indices"`
	Types           []int  `json:"split_type"`
	Hessian         []real `json:"sum_hessian"`
	Parameters      any    `json:"tree_param"`
}

// Write writes the model into dir and gives the path of its file, in XGBoost's JSON of version 2.1.
func (m Model) Write(dir string) (string, error) {
	if err := m.Check(); err != nil {
		return "", err
	}
	info := make([]int, m.Trees)
	steps := make([]int, m.Trees+1)
	for i := range m.Trees {
		steps[i+1] = i + 1
	}
	type object = map[string]any
	text, err := json.Marshal(object{
		"version": []int{2, 1, 4},
		"learner": object{
			"attributes": object{}, "feature_names": []string{}, "feature_types": []string{},
			"learner_model_param": object{"base_score": "5E-1", "boost_from_average": "1", "num_class": "0", "num_feature": fmt.Sprint(m.Features), "num_target": "1"},
			"objective":           object{"name": "binary:logistic", "reg_loss_param": object{"scale_pos_weight": "1"}},
			"gradient_booster": object{"name": "gbtree", "model": object{
				"gbtree_model_param": object{"num_parallel_tree": "1", "num_trees": fmt.Sprint(m.Trees)},
				"iteration_indptr":   steps, "tree_info": info, "trees": m.trees(),
			}},
		},
	})
	if err != nil {
		return "", fmt.Errorf("making model %s: %w", m.Name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making model %s: %w", m.Name, err)
	}
	path := filepath.Join(dir, "model.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return "", fmt.Errorf("making model %s: %w", m.Name, err)
	}
	return path, nil
}

// trees are the model's.
func (m Model) trees() []tree {
	random := rand.New(rand.NewPCG(uint64(m.Trees)<<32|uint64(m.Features), uint64(m.Depth)))
	trees := make([]tree, m.Trees)
	for i := range trees {
		trees[i] = m.tree(i, random)
	}
	return trees
}

// noParent is what XGBoost has as the parent of a root.
const noParent = math.MaxInt32

// tree is a full tree whose splits halve what is between 0 and 1, more or less, and whose leaves are small.
func (m Model) tree(id int, random *rand.Rand) tree {
	inner := 1<<m.Depth - 1
	nodes := 2*inner + 1
	t := tree{
		ID: id, BaseWeights: make([]real, nodes), Categories: []int{}, CategoryNodes: []int{}, CategorySegment: []int{}, CategorySizes: []int{},
		DefaultLeft: make([]int, nodes), Left: make([]int, nodes), LossChanges: make([]real, nodes), Parents: make([]int, nodes), Right: make([]int, nodes),
		Conditions: make([]real, nodes), Indices: make([]int, nodes), Types: make([]int, nodes), Hessian: make([]real, nodes),
		Parameters: map[string]string{"num_deleted": "0", "num_feature": fmt.Sprint(m.Features), "num_nodes": fmt.Sprint(nodes), "size_leaf_vector": "1"},
	}
	for n := range nodes {
		t.Parents[n] = (n - 1) / 2
		// A quarter of the rows that come by, as of probabilities about a half; converters take whole numbers for a regression's.
		t.Hessian[n] = real(float32(nodes) / 4)
		if n < inner {
			t.Left[n], t.Right[n] = 2*n+1, 2*n+2
			t.Indices[n], t.DefaultLeft[n] = random.IntN(m.Features), random.IntN(2)
			t.Conditions[n] = real(0.25 + 0.5*random.Float32())
			t.LossChanges[n] = 1
		} else {
			t.Left[n], t.Right[n] = -1, -1
			t.Conditions[n] = real((random.Float32() - 0.5) / float32(math.Sqrt(float64(m.Trees))))
			t.BaseWeights[n] = t.Conditions[n]
		}
	}
	t.Parents[0] = noParent
	return t
}

// Rows is so many rows of numbers between 0 and 1 for a model of so many features, the same every time, with nothing missing: JSON
// has no word for that.
func Rows(n, features int) []float32 {
	random := rand.New(rand.NewPCG(uint64(n), uint64(features)))
	values := make([]float32, n*features)
	for i := range values {
		values[i] = random.Float32()
	}
	return values
}

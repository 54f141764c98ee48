//go:build cgo && linux

package main

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
)

// madeUp is a model of complete trees with thresholds and leaves at random: no training, no library, the same bytes everywhere. A trained
// model of the same size takes about as long, because its trees are nearly complete, too.
type madeUp struct{ trees, depth, features int }

// real is a number that has an exponent in JSON, as XGBoost's have: to some who read its files 0 is no floating-point number.
type real float32

func (x real) MarshalJSON() ([]byte, error) { return strconv.AppendFloat(nil, float64(x), 'E', -1, 32), nil }

// json is the model as XGBoost 2.1 writes it.
func (m madeUp) json() []byte {
	random := rand.New(rand.NewPCG(uint64(m.trees), uint64(m.depth)))
	nodes, leaves := 1<<(m.depth+1)-1, 1<<m.depth
	var trees []any
	for range m.trees {
		ints := func() []int { return make([]int, nodes) }
		floats := func() []real { return make([]real, nodes) }
		left, right, parents, features, defaults := ints(), ints(), ints(), ints(), ints()
		conditions := floats()
		for i := range nodes {
			parents[i] = (i - 1) / 2
			left[i], right[i] = 2*i+1, 2*i+2
			features[i], defaults[i] = random.IntN(m.features), random.IntN(2)
			conditions[i] = real(random.NormFloat64())
			if i >= nodes-leaves {
				left[i], right[i], features[i], defaults[i] = -1, -1, 0, 0
				conditions[i] = real(random.NormFloat64() / 50)
			}
		}
		parents[0] = 1<<31 - 1
		trees = append(trees, map[string]any{
			"base_weights": floats(), "categories": []int{}, "categories_nodes": []int{}, "categories_segments": []int{}, "categories_sizes": []int{},
			"default_left": defaults, "id": len(trees), "left_children": left, "loss_changes": floats(), "parents": parents, "right_children": right,
			"split_conditions": conditions, "split_indices": features, "split_type": ints(), "sum_hessian": floats(),
			"tree_param": map[string]string{
				"num_deleted": "0", "num_feature": strconv.Itoa(m.features), "num_nodes": strconv.Itoa(nodes), "size_leaf_vector": "1",
			},
		})
	}
	indptr := make([]int, m.trees+1)
	for i := range indptr {
		indptr[i] = i
	}
	data, err := json.Marshal(map[string]any{
		"learner": map[string]any{
			"attributes": map[string]string{}, "feature_names": []string{}, "feature_types": []string{},
			"gradient_booster": map[string]any{
				"model": map[string]any{
					"gbtree_model_param": map[string]string{"num_parallel_tree": "1", "num_trees": strconv.Itoa(m.trees)},
					"iteration_indptr":   indptr, "tree_info": make([]int, m.trees), "trees": trees,
				},
				"name": "gbtree",
			},
			"learner_model_param": map[string]string{
				"base_score": "5E-1", "boost_from_average": "1", "num_class": "0", "num_feature": strconv.Itoa(m.features), "num_target": "1",
			},
			"objective": map[string]any{"name": "binary:logistic", "reg_loss_param": map[string]string{"scale_pos_weight": "1"}},
		},
		"version": []int{2, 1, 4},
	})
	if err != nil {
		panic("BUG: " + err.Error()) // numbers and text alone
	}
	return data
}

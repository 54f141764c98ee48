package ensemble_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/internal/ensemble"
)

// This file writes ensembles in the formats the readers read, for models that no trainer would make.

// randomTree grows a tree of at most depth splits over features columns. LightGBM numbers its nodes splits first, so
// both libraries get that order.
func randomTree(r *rand.Rand, lib ensemble.Library, features, depth int) ensemble.Tree {
	t := ensemble.Tree{Scale: 1}
	var splits, leaves []ensemble.Node
	var grow func(d int) int32 // the index of a split, or ^ the index of a leaf
	grow = func(d int) int32 {
		if d == 0 || r.IntN(5) == 0 {
			v := r.NormFloat64()
			if lib == ensemble.XGBoost {
				v = float64(float32(v))
			}
			leaves = append(leaves, ensemble.Node{Value: v, Left: -1, Right: -1, Set: -1, Cover: float32(r.IntN(100))})
			return ^int32(len(leaves) - 1)
		}
		n := ensemble.Node{Feature: int32(r.IntN(features)), DefaultLeft: r.IntN(2) == 0, Set: -1, Cover: float32(100 + r.IntN(1000)),
			Value: []float64{0, math.Copysign(0, -1), 1e-40, -1e-40, 1, -1, r.NormFloat64(), r.NormFloat64(), math.MaxFloat32}[r.IntN(9)]}
		if lib == ensemble.XGBoost {
			n.Op, n.Value = ensemble.Less, float64(float32(n.Value))
		} else {
			n.Op, n.Missing = ensemble.LessEqual, ensemble.Missing(r.IntN(3))
		}
		if r.IntN(6) == 0 {
			n.Op, n.Value, n.Set = ensemble.SetRight, 0, int32(len(t.Categories))
			if lib == ensemble.LightGBM {
				n.Op = ensemble.SetLeft
			}
			words := make([]uint32, 1+r.IntN(2))
			words[len(words)-1] = 1 | r.Uint32()
			t.Categories = append(t.Categories, words)
		}
		i := len(splits)
		splits = append(splits, n)
		left := grow(d - 1)
		right := grow(d - 1)
		splits[i].Left, splits[i].Right = left, right
		return int32(i)
	}
	grow(depth)
	at := func(c int32) int32 {
		if c < 0 {
			return int32(len(splits)) + ^c
		}
		return c
	}
	for i := range splits {
		splits[i].Left, splits[i].Right = at(splits[i].Left), at(splits[i].Right)
	}
	t.Nodes = slices.Concat(splits, leaves)
	// Sets are numbered in node order by the readers.
	sets := t.Categories
	t.Categories = nil
	for i := range t.Nodes {
		if s := t.Nodes[i].Set; s >= 0 {
			t.Nodes[i].Set = int32(len(t.Categories))
			t.Categories = append(t.Categories, sets[s])
		}
	}
	return t
}

func randomEnsemble(r *rand.Rand, lib ensemble.Library) *ensemble.Ensemble {
	e := &ensemble.Ensemble{Library: lib, Booster: "gbtree", Version: "2.1.0", NumFeature: 1 + r.IntN(8), Groups: 1, Targets: 1, ParallelTrees: 1}
	e.Objective = ensemble.Objective{Name: "reg:squarederror", SigmoidAlpha: 1}
	if lib == ensemble.LightGBM {
		e.Format, e.Booster, e.Version, e.Objective.Name = "text", "gbdt", "v4", "regression"
	}
	if r.IntN(2) == 0 {
		e.Groups, e.Classes = 3, 3
		e.Objective.Name, e.Objective.Transform = "multi:softprob", ensemble.Softmax
		if lib == ensemble.LightGBM {
			e.Objective.Name = "multiclass"
		}
	}
	e.BaseScore, e.BaseMargin = make([]float32, e.Groups), make([]float32, e.Groups)
	if lib == ensemble.XGBoost {
		if r.IntN(2) == 0 {
			e.Booster = "dart"
		}
		base := float32(r.NormFloat64())
		for g := range e.BaseScore {
			e.BaseScore[g], e.BaseMargin[g] = base, base
		}
	}
	for i := range e.Groups * r.IntN(6) {
		t := randomTree(r, lib, e.NumFeature, 1+r.IntN(6))
		t.Group = i % e.Groups
		if e.Booster == "dart" {
			t.Scale = float32(r.Float64())
		}
		e.Trees = append(e.Trees, t)
	}
	return e
}

// member is one entry of a document, in order.
type member struct {
	key   string
	value any // string, []float32, []int32, []member, [][]member
}

// xgboostDocument is e as XGBoost would lay it out.
func xgboostDocument(e *ensemble.Ensemble) []member {
	var trees [][]member
	var info []int32
	var weights []float32
	for i := range e.Trees {
		t := &e.Trees[i]
		info, weights = append(info, int32(t.Group)), append(weights, t.Scale)
		n := len(t.Nodes)
		left, right, index, dflt, kind := make([]int32, n), make([]int32, n), make([]int32, n), make([]int32, n), make([]int32, n)
		cond, cover := make([]float32, n), make([]float32, n)
		var categories, nodes, segments, sizes []int32
		for j, node := range t.Nodes {
			left[j], right[j], index[j], cond[j], cover[j] = node.Left, node.Right, node.Feature, float32(node.Value), node.Cover
			if node.DefaultLeft {
				dflt[j] = 1
			}
			if node.Op == ensemble.SetRight {
				kind[j], cond[j] = 1, float32(math.NaN())
				nodes, segments = append(nodes, int32(j)), append(segments, int32(len(categories)))
				for c := range uint32(32 * len(t.Categories[node.Set])) {
					if t.InSet(node.Set, c) {
						categories = append(categories, int32(c))
					}
				}
				sizes = append(sizes, int32(len(categories))-segments[len(segments)-1])
			}
		}
		trees = append(trees, []member{
			{"categories", categories}, {"categories_nodes", nodes}, {"categories_segments", segments}, {"categories_sizes", sizes},
			{"default_left", dflt}, {"id", strconv.Itoa(i)}, {"left_children", left}, {"right_children", right},
			{"split_conditions", cond}, {"split_indices", index}, {"split_type", kind}, {"sum_hessian", cover},
			{"tree_param", []member{{"num_nodes", strconv.Itoa(n)}, {"size_leaf_vector", "1"}}},
		})
	}
	model := []member{{"model", []member{
		{"gbtree_model_param", []member{{"num_parallel_tree", "1"}, {"num_trees", strconv.Itoa(len(trees))}}},
		{"tree_info", info}, {"trees", trees},
	}}, {"name", "gbtree"}}
	if e.Booster == "dart" {
		model = []member{{"gbtree", model}, {"name", "dart"}, {"weight_drop", weights}}
	}
	return []member{
		{"learner", []member{
			{"attributes", []member{{"note \"1\"\n", "ü"}}},
			{"gradient_booster", model},
			{"learner_model_param", []member{{"base_score", fmt.Sprintf("[%v]", e.BaseScore[0])},
				{"num_class", strconv.Itoa(e.Classes)}, {"num_feature", strconv.Itoa(e.NumFeature)}, {"num_target", "1"}}},
			{"objective", []member{{"name", e.Objective.Name}}},
		}},
		{"version", []int32{2, 1, 0}},
	}
}

func appendJSON(b []byte, v any) []byte {
	list := func(n int, put func(i int)) {
		b = append(b, '[')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			put(i)
		}
		b = append(b, ']')
	}
	switch v := v.(type) {
	case string:
		b = strconv.AppendQuoteToASCII(b, v)
	case []int32:
		list(len(v), func(i int) { b = strconv.AppendInt(b, int64(v[i]), 10) })
	case []float32:
		list(len(v), func(i int) {
			if v[i] != v[i] {
				b = append(b, "NaN"...)
				return
			}
			b = strconv.AppendFloat(b, float64(v[i]), 'E', -1, 32)
		})
	case [][]member:
		list(len(v), func(i int) { b = appendJSON(b, v[i]) })
	case []member:
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendJSON(b, m.key), ':')
			b = appendJSON(b, m.value)
		}
		b = append(b, '}')
	}
	return b
}

// appendUBJSON writes v as XGBoost does (typed arrays), or with plain arrays and other integer types where odd is set.
func appendUBJSON(b []byte, v any, odd bool) []byte {
	size := func(n int) {
		if odd {
			b = binary.BigEndian.AppendUint32(append(b, 'l'), uint32(n))
		} else {
			b = binary.BigEndian.AppendUint64(append(b, 'L'), uint64(n))
		}
	}
	switch v := v.(type) {
	case string:
		b = append(b, 'S')
		size(len(v))
		b = append(b, v...)
	case []int32:
		b = append(b, '[')
		if !odd {
			b = append(b, "$l#"...)
			size(len(v))
		}
		for _, x := range v {
			if odd {
				b = append(b, 'N', 'l')
			}
			b = binary.BigEndian.AppendUint32(b, uint32(x))
		}
		if odd {
			b = append(b, ']')
		}
	case []float32:
		b = append(b, '[')
		if !odd {
			b = append(b, "$d#"...)
			size(len(v))
		}
		for _, x := range v {
			if odd {
				b = binary.BigEndian.AppendUint64(append(b, 'D'), math.Float64bits(float64(x)))
			} else {
				b = binary.BigEndian.AppendUint32(b, math.Float32bits(x))
			}
		}
		if odd {
			b = append(b, ']')
		}
	case [][]member:
		b = append(b, "[#"...)
		size(len(v))
		for _, x := range v {
			b = appendUBJSON(b, x, odd)
		}
	case []member:
		b = append(b, '{')
		for _, m := range v {
			size(len(m.key))
			b = append(b, m.key...)
			b = appendUBJSON(b, m.value, odd)
		}
		b = append(b, '}')
	}
	return b
}

// lightgbmText is e as LightGBM would write it.
func lightgbmText(e *ensemble.Ensemble) []byte {
	var b strings.Builder
	line := func(key string, values ...any) {
		fmt.Fprintf(&b, "%s=%s\n", key, strings.Trim(fmt.Sprint(values...), "[]"))
	}
	b.WriteString("tree\n")
	line("version", e.Version)
	line("num_class", max(1, e.Classes))
	line("num_tree_per_iteration", e.Groups)
	line("max_feature_idx", e.NumFeature-1)
	objective := e.Objective.Name
	if e.Classes > 0 {
		objective += fmt.Sprintf(" num_class:%d", e.Classes)
	}
	line("objective", objective)
	b.WriteString("\n")
	for i := range e.Trees {
		t := &e.Trees[i]
		splits := sort.Search(len(t.Nodes), func(j int) bool { return t.Nodes[j].Op == ensemble.Leaf })
		var feature, left, right, decision, internal, leafCount, boundaries []int
		var threshold, leaf []float64
		var words []uint32
		boundaries = append(boundaries, 0)
		child := func(c int32) int {
			if int(c) >= splits {
				return -(int(c) - splits) - 1
			}
			return int(c)
		}
		for j, n := range t.Nodes {
			if j >= splits {
				leaf, leafCount = append(leaf, n.Value), append(leafCount, int(n.Cover))
				continue
			}
			feature, threshold, internal = append(feature, int(n.Feature)), append(threshold, n.Value), append(internal, int(n.Cover))
			left, right = append(left, child(n.Left)), append(right, child(n.Right))
			d := map[ensemble.Missing]int{ensemble.MissingNone: 0, ensemble.MissingZero: 4, ensemble.MissingNaN: 8}[n.Missing]
			if n.DefaultLeft {
				d |= 2
			}
			if n.Op == ensemble.SetLeft {
				d |= 1
				threshold[j] = float64(n.Set)
				words = append(words, t.Categories[n.Set]...)
				boundaries = append(boundaries, len(words))
			}
			decision = append(decision, d)
		}
		line("Tree", i)
		line("num_leaves", len(t.Nodes)-splits)
		line("num_cat", len(t.Categories))
		if splits > 0 {
			line("split_feature", feature)
			line("threshold", threshold)
			line("decision_type", decision)
			line("left_child", left)
			line("right_child", right)
			line("internal_count", internal)
		}
		line("leaf_value", leaf)
		line("leaf_count", leafCount)
		if len(t.Categories) > 0 {
			line("cat_boundaries", boundaries)
			line("cat_threshold", words)
		}
		line("is_linear", 0)
		line("shrinkage", 1)
		b.WriteString("\n\n")
	}
	b.WriteString("end of trees\n\nparameters:\n[x: 1]\nend of parameters\n")
	return []byte(b.String())
}

package ensemble_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/testkit/onnxfile"
)

// onnxFile describes an ONNX file of one tree operator. Its zero value of a field leaves the field out.
type onnxFile struct {
	before, after [][]byte // nodes around the operator
	operator      string
	input         uint64 // element type
	inputName     string // what the operator reads; "X" unless given
	features      int
	attributes    map[string]any // int, string, []int, []float32, []float64 (a tensor), []string
	unpacked      bool           // lists one by one, as the older proto2 writers do
}

func wireText(b []byte, number protowire.Number, s string) []byte {
	return onnxfile.Message(b).Text(number, s)
}

func wireBytes(b []byte, number protowire.Number, part []byte) []byte {
	return onnxfile.Message(b).Part(number, part)
}

func wireInt(b []byte, number protowire.Number, v uint64) []byte {
	return onnxfile.Message(b).Number(number, int64(v))
}

func (f *onnxFile) attribute(name string, value any) []byte {
	b := wireText(nil, 1, name)
	switch v := value.(type) {
	case int:
		b = wireInt(b, 3, uint64(v))
	case string:
		b = wireText(b, 4, v)
	case []int:
		var packed []byte
		for _, x := range v {
			if f.unpacked {
				b = wireInt(b, 8, uint64(x))
			}
			packed = protowire.AppendVarint(packed, uint64(x))
		}
		if !f.unpacked {
			b = wireBytes(b, 8, packed)
		}
	case []float32:
		var packed []byte
		for _, x := range v {
			if f.unpacked {
				b = protowire.AppendFixed32(protowire.AppendTag(b, 7, protowire.Fixed32Type), math.Float32bits(x))
			}
			packed = binary.LittleEndian.AppendUint32(packed, math.Float32bits(x))
		}
		if !f.unpacked {
			b = wireBytes(b, 7, packed)
		}
	case []string:
		for _, x := range v {
			b = wireText(b, 9, x)
		}
	case []float64:
		tensor := wireInt(wireInt(nil, 1, uint64(len(v))), 2, 11)
		var raw []byte
		for _, x := range v {
			raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(x))
			if f.unpacked {
				tensor = protowire.AppendFixed64(protowire.AppendTag(tensor, 10, protowire.Fixed64Type), math.Float64bits(x))
			}
		}
		if !f.unpacked {
			tensor = wireBytes(tensor, 9, raw)
		}
		b = wireBytes(b, 5, tensor)
	default:
		panic(fmt.Sprintf("BUG: an attribute of type %T", value))
	}
	return b
}

func onnxOperator(operator, domain, in, out string, attributes ...[]byte) []byte {
	b := wireText(wireText(wireText(nil, 1, in), 2, out), 4, operator)
	for _, a := range attributes {
		b = wireBytes(b, 5, a)
	}
	return wireText(b, 7, domain)
}

func (f *onnxFile) bytes() []byte {
	value := func(name string, element uint64) []byte {
		dim := wireBytes(wireBytes(nil, 1, wireText(nil, 2, "rows")), 1, wireInt(nil, 1, uint64(f.features)))
		tensor := wireBytes(wireInt(nil, 1, element), 2, dim)
		return wireBytes(wireText(nil, 1, name), 2, wireBytes(nil, 1, tensor))
	}
	node := wireText(nil, 1, f.inputName)
	if f.inputName == "" {
		node = wireText(nil, 1, "X")
	}
	if f.operator == "TreeEnsembleClassifier" {
		node = wireText(node, 2, "label")
	}
	node = wireText(wireText(node, 2, "scores"), 4, f.operator)
	for _, name := range []string{"nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids", "nodes_falsenodeids",
		"nodes_missing_value_tracks_true", "nodes_values", "nodes_values_as_tensor", "nodes_hitrates", "target_treeids", "target_nodeids", "target_ids",
		"target_weights", "target_weights_as_tensor", "class_treeids", "class_nodeids", "class_ids", "class_weights", "n_targets", "base_values",
		"base_values_as_tensor", "classlabels_int64s", "classlabels_strings", "aggregate_function", "post_transform", "extra"} {
		if v, ok := f.attributes[name]; ok {
			node = wireBytes(node, 5, f.attribute(name, v))
		}
	}
	node = wireText(node, 7, "ai.onnx.ml")
	var graph []byte
	for _, n := range f.before {
		graph = wireBytes(graph, 1, n)
	}
	graph = wireBytes(graph, 1, node)
	for _, n := range f.after {
		graph = wireBytes(graph, 1, n)
	}
	graph = wireBytes(wireText(graph, 2, "trees"), 11, value("X", f.input))
	out := "scores"
	if len(f.after) > 0 {
		out = "out"
	}
	graph = wireBytes(graph, 12, value(out, 1))
	b := wireText(wireText(wireInt(nil, 1, 8), 2, "writer"), 3, "1.0")
	b = wireBytes(b, 7, graph)
	b = wireBytes(b, 8, wireInt(wireText(nil, 1, ""), 2, 15))
	return wireBytes(b, 8, wireInt(wireText(nil, 1, "ai.onnx.ml"), 2, 3))
}

// onnxOf lays e out as a regressor. Each bundle of trees, which have the same splits, becomes one tree. flip writes
// some tests the other way round; shift gives nodes ids that are not their places.
func onnxOf(e *ensemble.Ensemble, bundle int, unpacked, flip, shift bool) *onnxFile {
	f := &onnxFile{operator: "TreeEnsembleRegressor", input: 1, features: e.NumFeature, unpacked: unpacked, attributes: map[string]any{"n_targets": e.Groups}}
	var trees, nodes, features, whenTrue, whenFalse, missing, weightTrees, weightNodes, groups []int
	var modes []string
	var thresholds, weights []float64
	for i := 0; i < len(e.Trees); i += bundle {
		t := &e.Trees[i]
		id := func(j int32) int {
			if shift {
				return len(t.Nodes) - int(j)
			}
			return int(j)
		}
		for j, n := range t.Nodes {
			trees, nodes, thresholds = append(trees, 7*i), append(nodes, id(int32(j))), append(thresholds, n.Value)
			if n.Op == ensemble.Leaf {
				thresholds[len(thresholds)-1] = 0
				modes, features, whenTrue, whenFalse, missing = append(modes, "LEAF"), append(features, 0), append(whenTrue, 0), append(whenFalse, 0), append(missing, 0)
				for k := range bundle {
					tree := &e.Trees[i+k]
					weightTrees, weightNodes = append(weightTrees, 7*i), append(weightNodes, id(int32(j)))
					groups, weights = append(groups, tree.Group), append(weights, tree.Nodes[j].Value)
				}
				continue
			}
			mode, left, right, left1 := "BRANCH_LT", n.Left, n.Right, n.DefaultLeft
			if n.Op == ensemble.LessEqual {
				mode = "BRANCH_LEQ"
			}
			if flip && j%2 == 0 {
				mode = map[string]string{"BRANCH_LT": "BRANCH_GTE", "BRANCH_LEQ": "BRANCH_GT"}[mode]
				left, right, left1 = right, left, !left1
			}
			modes, features = append(modes, mode), append(features, int(n.Feature))
			whenTrue, whenFalse, missing = append(whenTrue, id(left)), append(whenFalse, id(right)), append(missing, 0)
			if left1 {
				missing[len(missing)-1] = 1
			}
		}
	}
	a := f.attributes
	a["nodes_treeids"], a["nodes_nodeids"], a["nodes_featureids"], a["nodes_modes"] = trees, nodes, features, modes
	a["nodes_truenodeids"], a["nodes_falsenodeids"], a["nodes_missing_value_tracks_true"] = whenTrue, whenFalse, missing
	a["target_treeids"], a["target_nodeids"], a["target_ids"] = weightTrees, weightNodes, groups
	if e.Double {
		f.input = 11
		a["nodes_values_as_tensor"], a["target_weights_as_tensor"] = thresholds, weights
		return f
	}
	a["nodes_values"], a["target_weights"], a["base_values"] = narrow(thresholds), narrow(weights), e.BaseMargin
	return f
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i := range v {
		out[i] = float32(v[i])
	}
	return out
}

// randomONNX is a random regressor; the trees of a bundle, one per target, have the same splits.
func randomONNX(r *rand.Rand) (e *ensemble.Ensemble, bundle int) {
	e = &ensemble.Ensemble{Library: ensemble.ONNX, Format: "onnx", Version: "writer 1.0", Booster: "TreeEnsembleRegressor", Double: r.IntN(2) == 0,
		NumFeature: 1 + r.IntN(8), Groups: 1 + r.IntN(3), ParallelTrees: 1, Objective: ensemble.Objective{Name: "NONE", SigmoidAlpha: 1}}
	e.Targets, e.BaseLast, bundle = e.Groups, !e.Double, 1
	e.BaseScore, e.BaseMargin = make([]float32, e.Groups), make([]float32, e.Groups)
	if !e.Double {
		for g := range e.BaseMargin {
			e.BaseMargin[g] = float32(r.NormFloat64())
		}
		copy(e.BaseScore, e.BaseMargin)
	}
	if r.IntN(2) == 0 {
		bundle = e.Groups
	}
	for i := range e.Groups + r.IntN(5) {
		t := randomTree(r, ensemble.XGBoost, e.NumFeature, 1+r.IntN(6))
		t.Categories, t.Group = nil, i%e.Groups // every target gets a score, without which it would get no base value
		for j := range t.Nodes {
			n := &t.Nodes[j]
			n.Cover = 0
			if n.Op == ensemble.Leaf {
				continue
			}
			n.Op, n.Set = ensemble.Less, -1
			if r.IntN(2) == 0 {
				n.Op = ensemble.LessEqual
				if e.Double {
					n.Value = r.NormFloat64() // of Less, the reader keeps the float32 value that splits the same rows
				}
			}
		}
		for k := range bundle {
			one := t
			one.Nodes = append([]ensemble.Node(nil), t.Nodes...)
			if bundle > 1 {
				one.Group = k
			}
			for j := range one.Nodes {
				if n := &one.Nodes[j]; n.Op == ensemble.Leaf {
					if n.Value = r.NormFloat64(); !e.Double {
						n.Value = float64(float32(n.Value))
					}
				}
			}
			e.Trees = append(e.Trees, one)
		}
	}
	return e, bundle
}

// TestRandomONNX writes random models as ONNX, in every way of writing the same, and demands the same models back.
func TestRandomONNX(t *testing.T) {
	for seed := range uint64(300) {
		e, bundle := randomONNX(rand.New(rand.NewPCG(seed, 12)))
		for way := range 8 {
			data := onnxOf(e, bundle, way&1 > 0, way&2 > 0, way&4 > 0).bytes()
			same(t, fmt.Sprintf("seed %d, way %d", seed, way), data, e)
		}
	}
}

// onnxStump is a model of one split.
func onnxStump() *onnxFile {
	return &onnxFile{operator: "TreeEnsembleRegressor", input: 1, features: 2, attributes: map[string]any{
		"nodes_treeids": []int{0, 0, 0}, "nodes_nodeids": []int{0, 1, 2}, "nodes_featureids": []int{1, 0, 0}, "nodes_modes": []string{"BRANCH_LEQ", "LEAF", "LEAF"},
		"nodes_truenodeids": []int{1, 0, 0}, "nodes_falsenodeids": []int{2, 0, 0}, "nodes_values": []float32{0.5, 0, 0}, "n_targets": 1,
		"target_treeids": []int{0, 0}, "target_nodeids": []int{1, 2}, "target_ids": []int{0, 0}, "target_weights": []float32{-1, 2}}}
}

// classifier turns the stump into a classifier of two classes with one score.
func (f *onnxFile) classifier() {
	f.operator = "TreeEnsembleClassifier"
	for _, key := range []string{"treeids", "nodeids", "ids", "weights"} {
		f.attributes["class_"+key] = f.attributes["target_"+key]
		delete(f.attributes, "target_"+key)
	}
	delete(f.attributes, "n_targets")
	f.attributes["classlabels_strings"] = []string{"no", "yes"}
	f.attributes["post_transform"] = "LOGISTIC"
}

func TestONNXDamage(t *testing.T) {
	set := func(key string, value any) func(*onnxFile) { return func(f *onnxFile) { f.attributes[key] = value } }
	nan := float32(math.NaN())
	for _, d := range []struct {
		what   string
		change func(f *onnxFile)
		want   string
	}{
		{"nothing", func(*onnxFile) {}, ""},
		{"a child past the end", set("nodes_truenodeids", []int{3, 0, 0}), "has a child 3"},
		{"a negative child", set("nodes_falsenodeids", []int{-1, 0, 0}), "has a child -1"},
		{"a cycle", set("nodes_truenodeids", []int{0, 0, 0}), "reached twice"},
		{"a shared child", set("nodes_truenodeids", []int{2, 0, 0}), "reached twice"},
		{"a feature past the end", set("nodes_featureids", []int{2, 0, 0}), "splits on feature 2, but the input has 2"},
		{"a negative feature", set("nodes_featureids", []int{-1, 0, 0}), "splits on feature -1"},
		{"a wide number", set("nodes_featureids", []int{1 << 40, 0, 0}), "does not fit 32 bits"},
		{"a NaN threshold", set("nodes_values", []float32{nan, 0, 0}), "has the threshold NaN"},
		{"a NaN weight", set("target_weights", []float32{1, nan}), "has the value NaN"},
		{"a NaN base value", set("base_values", []float32{nan}), "base value 0 is NaN"},
		{"two base values", set("base_values", []float32{1, 2}), "base_values has 2 entries for 1"},
		{"a short list", set("nodes_values", []float32{0.5, 0}), "nodes_values has 2 entries; there should be 3"},
		{"modes of another tree", set("nodes_modes", []string{"LEAF"}), "nodes_modes has 1 entries"},
		{"half of the missing values", set("nodes_missing_value_tracks_true", []int{1}), "for 3 nodes"},
		{"an unknown mode", set("nodes_modes", []string{"BRANCH_EQ", "LEAF", "LEAF"}), `mode "BRANCH_EQ", which is not supported`},
		{"nodes twice", set("nodes_nodeids", []int{0, 1, 1}), "have the same id"},
		{"nodes apart", set("nodes_treeids", []int{0, 1, 0}), "do not stand together"},
		{"no nodes", func(f *onnxFile) { f.attributes = map[string]any{"n_targets": 1} }, "it has no nodes"},
		{"a weight of another tree", set("target_treeids", []int{0, 9}), "tree 9, which does not exist"},
		{"a weight of another node", set("target_nodeids", []int{1, 9}), "node 9 of tree 0, which does not exist"},
		{"a weight for another target", set("target_ids", []int{0, 1}), "adds to class or target 1; there are 1"},
		{"two weights", set("target_nodeids", []int{1, 1}), "leaf 2 has no weight"},
		{"no targets", func(f *onnxFile) { delete(f.attributes, "n_targets") }, "it has -1 classes or targets"},
		{"too many targets", set("n_targets", 1<<30), "it has 1073741824 classes or targets"},
		{"the least of the trees", set("aggregate_function", "MIN"), `aggregate_function "MIN" is not supported`},
		{"an average and a base value", func(f *onnxFile) { set("aggregate_function", "AVERAGE")(f); set("base_values", []float32{1})(f) }, "AVERAGE is supported only"},
		{"a probit", set("post_transform", "PROBIT"), `post_transform "PROBIT" is not supported`},
		{"softmax of nonzeros", set("post_transform", "SOFTMAX_ZERO"), `post_transform "SOFTMAX_ZERO" is not supported`},
		{"an unknown attribute", set("extra", 1), `attribute "extra" is not known`},
		{"a tensor for a float input", func(f *onnxFile) {
			delete(f.attributes, "nodes_values")
			f.attributes["nodes_values_as_tensor"] = []float64{1, 0, 0}
		}, "is a tensor, but"},
		{"thresholds twice", func(f *onnxFile) {
			f.input, f.attributes["nodes_values_as_tensor"] = 11, []float64{1, 0, 0}
		}, "is there twice"},
		{"labels of a regressor", set("classlabels_int64s", []int{0, 1}), "it is a regressor with class labels"},
		{"integers as input", func(f *onnxFile) { f.input = 7 }, "does not read the model's input"},
		{"another input", func(f *onnxFile) { f.inputName = "Y" }, "does not read the model's input"},
		{"too many features", func(f *onnxFile) { f.features = 1 << 30 }, "its input has 1073741824 features"},
		{"a scaler before", func(f *onnxFile) {
			f.before, f.inputName = [][]byte{onnxOperator("Scaler", "ai.onnx.ml", "X", "S")}, "S"
		}, `operator "Scaler" before the trees is not supported`},
		{"a normalizer after", func(f *onnxFile) {
			f.after = [][]byte{onnxOperator("Normalizer", "ai.onnx.ml", "scores", "out")}
		}, `operator "Normalizer" after the trees is not supported`},
		{"a cast to integers", func(f *onnxFile) {
			f.before, f.inputName = [][]byte{onnxOperator("Cast", "", "X", "S", f.attribute("to", 7))}, "S"
		}, "operator Cast turns numbers into type 7"},
		{"a cast to double", func(f *onnxFile) {
			f.before, f.inputName = [][]byte{onnxOperator("Cast", "", "X", "S", f.attribute("to", 11))}, "S"
		}, ""},
		{"scores that go nowhere", func(f *onnxFile) {
			f.after = [][]byte{onnxOperator("ArgMax", "", "scores", "out")}
		}, "no output of the graph gives the scores"},
		{"a name twice", func(f *onnxFile) { f.before = [][]byte{onnxOperator("Identity", "", "X", "X")} }, "is computed twice"},
		{"another operator set", func(f *onnxFile) { f.after = [][]byte{onnxOperator("Identity", "com.example", "label", "out")} }, `no operators of domain "com.example"`},
		{"a network", func(f *onnxFile) { f.operator = "LinearRegressor" }, "LinearRegressor"},
		{"a hundred thousand operators", func(f *onnxFile) { f.before = make([][]byte, 100_000) }, "more than 256 operators"},

		{"a classifier", (*onnxFile).classifier, ""},
		{"a classifier without labels", func(f *onnxFile) { f.classifier(); delete(f.attributes, "classlabels_strings") }, "class labels are missing"},
		{"a classifier of one class", func(f *onnxFile) { f.classifier(); set("classlabels_strings", []string{"a"})(f) }, "one class is not supported"},
		{"labels twice", func(f *onnxFile) { f.classifier(); set("classlabels_int64s", []int{0, 1})(f) }, "labels are there twice"},
		{"too many labels", func(f *onnxFile) { f.classifier(); set("classlabels_strings", make([]string, 5000))(f) }, "more than 4096"},
		{"a classifier that averages", func(f *onnxFile) { f.classifier(); set("aggregate_function", "AVERAGE")(f) }, "a classifier has an aggregate function"},
		{"a negative class", func(f *onnxFile) { f.classifier(); set("class_ids", []int{0, -1})(f) }, "adds to class -1"},
		{"only the second class", func(f *onnxFile) { f.classifier(); set("class_ids", []int{1, 1})(f) }, "versions disagree"},
		{"a second class now and then", func(f *onnxFile) { f.classifier(); set("class_ids", []int{0, 1})(f) }, "some rows have no score for class or target 1"},
		{"two base values", func(f *onnxFile) { f.classifier(); set("base_values", []float32{1, 2})(f) }, "2 base values for two classes"},
		{"a base value now and then", func(f *onnxFile) {
			set("n_targets", 2)(f)
			set("target_ids", []int{0, 1})(f)
			set("base_values", []float32{0, 1})(f)
		}, "some rows have no score for class or target 1"},
	} {
		t.Run(d.what, func(t *testing.T) {
			f := onnxStump()
			d.change(f)
			refusedAs(t, f.bytes(), d.want)
		})
	}
}

// TestONNXScores pins what ONNX Runtime 1.20 answers for the stump in the cases that the standard leaves open. The row
// goes left, to the weight -1 (or 0.25 where weights are positive).
func TestONNXScores(t *testing.T) {
	positive := func(f *onnxFile) { f.attributes["class_weights"] = []float32{0.25, 0.75} }
	logistic := func(x float64) float32 { return float32(1 / (1 + math.Exp(-x))) }
	for _, c := range []struct {
		what   string
		change func(f *onnxFile)
		want   []float32
	}{
		{"logistic", func(*onnxFile) {}, []float32{logistic(-1)}},
		{"a base value", func(f *onnxFile) { f.attributes["base_values"] = []float32{1.5} }, []float32{logistic(0.5)}},
		{"positive weights are not transformed", positive, []float32{0.25}},
		{"no transform", func(f *onnxFile) { f.attributes["post_transform"] = "NONE" }, []float32{-1}},
		{"both classes", func(f *onnxFile) {
			f.attributes["class_treeids"], f.attributes["class_nodeids"] = []int{0, 0, 0, 0}, []int{1, 1, 2, 2}
			f.attributes["class_ids"], f.attributes["class_weights"] = []int{0, 1, 0, 1}, []float32{-1, 0.5, 2, 0.5}
		}, []float32{logistic(-1), logistic(0.5)}},
		{"three classes, two base values, softmax", func(f *onnxFile) {
			f.attributes["classlabels_strings"], f.attributes["post_transform"] = []string{"a", "b", "c"}, "SOFTMAX"
			f.attributes["base_values"] = []float32{1, 0}
		}, []float32{1. / 3, 1. / 3, 1. / 3}},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := onnxStump()
			f.classifier()
			c.change(f)
			e, err := ensemble.Parse(f.bytes(), ensemble.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, e.Outputs())
			if err := e.Predict([]float32{9, 0}, got); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %v; want %v", got, c.want)
			}
			for i := range got {
				if ulps(got[i], c.want[i]) > 2 {
					t.Fatalf("got %v; want %v", got, c.want)
				}
			}
			if labels := fmt.Sprint(e.ClassLabels); labels != fmt.Sprint(f.attributes["classlabels_strings"]) {
				t.Fatalf("the labels are %s", labels)
			}
		})
	}
}

// TestONNXTruncation cuts a file everywhere: no prefix is a model.
func TestONNXTruncation(t *testing.T) {
	e, bundle := randomONNX(rand.New(rand.NewPCG(9, 9)))
	for name, data := range map[string][]byte{"a stump": onnxStump().bytes(), "random": onnxOf(e, bundle, true, true, true).bytes()} {
		for n := range data {
			if got, err := ensemble.Parse(data[:n:n], ensemble.Limits{}); err == nil || got != nil {
				t.Fatalf("%s: the first %d of %d bytes were taken for a model", name, n, len(data))
			}
		}
	}
}

// deepONNX is the tree of chain as ONNX.
func deepONNX(depth int) []byte {
	return onnxOf(&ensemble.Ensemble{NumFeature: 1, Groups: 1, BaseMargin: []float32{0}, Trees: []ensemble.Tree{deepTree(depth)}}, 1, false, false, false).bytes()
}

func TestONNXMemory(t *testing.T) {
	const leaves = 2048 // of a full tree, each adding to a target of its own
	full := ensemble.Tree{Scale: 1}
	for i := range int32(2*leaves - 1) {
		n := ensemble.Node{Left: -1, Right: -1, Set: -1}
		if i < leaves-1 {
			n = ensemble.Node{Op: ensemble.Less, Left: 2*i + 1, Right: 2*i + 2, Set: -1}
		}
		full.Nodes = append(full.Nodes, n)
	}
	e := &ensemble.Ensemble{NumFeature: 1, Groups: 1, BaseMargin: []float32{0}, Trees: []ensemble.Tree{full}}
	wide := onnxOf(e, 1, false, false, false)
	ids := make([]int, leaves)
	for i := range ids {
		ids[i] = i
	}
	wide.attributes["target_ids"], wide.attributes["n_targets"] = ids, leaves
	delete(wide.attributes, "base_values")
	labels := onnxStump()
	labels.attributes["classlabels_int64s"] = make([]int, 1<<20)
	modes := onnxStump()
	modes.attributes["nodes_modes"] = make([]string, 1<<18)
	unpacked := onnxStump()
	unpacked.unpacked = true
	unpacked.attributes["nodes_treeids"] = make([]int, 1<<18)
	many := &ensemble.Ensemble{NumFeature: 1, Groups: 1, BaseMargin: []float32{0}}
	for range 5000 {
		many.Trees = append(many.Trees, ensemble.Tree{Nodes: []ensemble.Node{{Left: -1, Right: -1, Set: -1}}})
	}
	attributes := onnxStump()
	attributes.before = [][]byte{[]byte(strings.Repeat("\x2a\x00", 1<<18))}
	inputs := onnxStump()
	inputs.before = [][]byte{[]byte(strings.Repeat("\x0a\x00", 1<<18))}
	for name, data := range map[string][]byte{
		"a target per leaf": wide.bytes(), "many labels": labels.bytes(), "many empty modes": modes.bytes(), "many numbers, one by one": unpacked.bytes(),
		"many trees of a leaf": onnxOf(many, 1, false, false, true).bytes(), "a deep tree": deepONNX(20_000), "many attributes": attributes.bytes(),
		"many inputs": inputs.bytes(), "a length of 2^62": []byte("\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x3f"),
		"many operator sets": []byte("\x08\x08" + strings.Repeat("\x42\x00", 1<<18)),
	} {
		allocates(t, name, data)
	}
	refusedAs(t, wide.bytes(), "needs more memory than a file of this size may take")
}

package ensemble_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/testkit"
)

// stump is an XGBoost model of one split, with room for damage.
const stump = `{"learner":{"feature_names":[],"gradient_booster":{"model":{"gbtree_model_param":{"num_trees":"1","num_parallel_tree":"1"},` +
	`"tree_info":[0],"trees":[{"id":0,"tree_param":{"num_nodes":"3","size_leaf_vector":"0"},"left_children":[1,-1,-1],"right_children":[2,-1,-1],` +
	`"split_indices":[1,0,0],"split_conditions":[5E-1,1E0,2E0],"default_left":[1,0,0],"split_type":[0,0,0],"categories":[],"categories_nodes":[],` +
	`"categories_segments":[],"categories_sizes":[]}]},"name":"gbtree"},"learner_model_param":{"base_score":"5E-1","num_class":"0","num_feature":"2"},` +
	`"objective":{"name":"binary:logistic"}},"version":[1,7,6]}`

// lgbStump is the same for LightGBM.
const lgbStump = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\nobjective=binary sigmoid:1\nfeature_names=a b\n\n" +
	"Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=1\nthreshold=0.5\ndecision_type=2\nleft_child=-1\nright_child=-2\nleaf_value=1 2\n" +
	"is_linear=0\nshrinkage=1\n\n\nend of trees\n"

func TestDamage(t *testing.T) {
	for _, d := range []struct{ what, model, old, new, want string }{
		{"nothing", stump, "", "", ""},
		{"nothing", lgbStump, "", "", ""},
		{"a child past the end", stump, "[2,-1,-1]", "[3,-1,-1]", "has a child 3, but the tree has 3 nodes"},
		{"a negative child", stump, "[2,-1,-1]", "[-7,-1,-1]", "has a child -7"},
		{"a cycle", stump, `"left_children":[1,`, `"left_children":[0,`, "reached twice"},
		{"a shared child", stump, `"right_children":[2,`, `"right_children":[1,`, "reached twice"},
		{"one child", stump, `"right_children":[2,`, `"right_children":[-1,`, "has a child -1"},
		{"a feature past the end", stump, `"split_indices":[1,`, `"split_indices":[2,`, "splits on feature 2, but num_feature is 2"},
		{"a deleted node in use", stump, `"split_indices":[1,`, `"split_indices":[4294967295,`, "splits on feature -1"},
		{"a NaN threshold", stump, "[5E-1,", "[NaN,", "has the threshold NaN"},
		{"a NaN leaf", stump, "1E0,2E0]", "1E0,NaN]", "has the value NaN"},
		{"a short array", stump, "[5E-1,1E0,2E0]", "[5E-1,1E0]", "split_conditions has 2 entries for 3 nodes"},
		{"a missing array", stump, `"default_left":[1,0,0],`, "", "default_left has 0 entries"},
		{"an empty tree", stump, "[1,-1,-1]", "[]", "has no nodes"},
		{"wrong num_nodes", stump, `"num_nodes":"3"`, `"num_nodes":"4"`, "num_nodes is 4, but"},
		{"wrong num_trees", stump, `"num_trees":"1"`, `"num_trees":"2"`, "num_trees is 2, but there are 1 trees"},
		{"wrong tree_info", stump, `"tree_info":[0]`, `"tree_info":[0,0]`, "tree_info has 2 entries for 1 trees"},
		{"a wrong group", stump, `"tree_info":[0]`, `"tree_info":[1]`, "belongs to group 1"},
		{"a wrong id", stump, `"id":0`, `"id":1`, "has id 1"},
		{"a huge integer", stump, "[0,0,0]", "[0,0,99999999999999999999]", "is not an integer"},
		{"a wide integer", stump, "[0,0,0]", "[0,0,4294967296]", "does not fit 32 bits"},
		{"a float that overflows", stump, "2E0]", "2E99]", "is not a number of float32"},
		{"a hexadecimal float", stump, "2E0]", "0x2]", "is not a number"},
		{"an endless number", stump, "2E0]", strings.Repeat("1", 1000) + "]", "1000 characters long"},
		{"no features", stump, `"num_feature":"2"`, `"num_feature":"0"`, "never trained"},
		{"too many features", stump, `"num_feature":"2"`, `"num_feature":"99999999999"`, "num_feature is"},
		{"too many classes", stump, `"num_class":"0"`, `"num_class":"2000000000"`, "num_class is"},
		{"names of another model", stump, `"feature_names":[]`, `"feature_names":["a"]`, "feature_names has 1 entries"},
		{"a base score of 1", stump, `"5E-1"`, `"1E0"`, "has no margin"},
		{"two base scores", stump, `"5E-1"`, `"[5E-1,5E-1]"`, "base_score is"},
		{"an odd base score", stump, `"5E-1"`, `"[5E-1"`, "base_score is"},
		{"an unknown objective", stump, "binary:logistic", "binary:magic", `objective "binary:magic" is not one Picket knows`},
		{"an unknown booster", stump, `"name":"gbtree"`, `"name":"gbforest"`, `booster "gbforest" is not supported`},
		{"a future version", stump, "[1,7,6]", "[4,0,0]", "version [4 0 0]"},
		{"vector leaves", stump, `"size_leaf_vector":"0"`, `"size_leaf_vector":"3"`, "vector leaves"},
		{"a category without a set", stump, `"split_type":[0,`, `"split_type":[1,`, "without categories"},
		{"an unknown split type", stump, `"split_type":[0,`, `"split_type":[7,`, "split type 7"},
		{"sets of different lengths", stump, `"categories_nodes":[]`, `"categories_nodes":[0]`, "differ in length"},
		{"a huge category", stump, `[0,0,0],"categories":[],"categories_nodes":[],"categories_segments":[],"categories_sizes":[]`,
			`[1,0,0],"categories":[2147483647],"categories_nodes":[0],"categories_segments":[0],"categories_sizes":[1]`, "needs more memory"},
		{"categories outside the list", stump, `[0,0,0],"categories":[],"categories_nodes":[],"categories_segments":[],"categories_sizes":[]`,
			`[1,0,0],"categories":[1],"categories_nodes":[0],"categories_segments":[1],"categories_sizes":[1]`, "lie outside"},
		{"two learners", stump, `"version":`, `"learner":{},"version":`, `"learner" is there twice`},
		{"a member twice", stump, `"left_children":`, `"left_children":[],"left_children":`, `"left_children" is there twice`},
		{"a parameter twice", stump, `"num_class":"0"`, `"num_class":"0","num_class":"3"`, `"num_class" is there twice`},
		{"two lists of trees", stump, `"tree_info":`, `"trees":[],"tree_info":`, `"trees" is there twice`},
		{"too many members", stump, `"tree_info":`, manyMembers(100) + `"tree_info":`, "more than 64 members"},
		{"no learner", stump, `"learner"`, `"teacher"`, "no learner"},
		{"something behind", stump, "[1,7,6]}", "[1,7,6]}{}", "something follows"},
		{"an unknown escape", stump, `"gbtree"`, `"gb\x"`, "unknown escape"},
		{"text for an array", stump, `"left_children":[1,-1,-1]`, `"left_children":"x"`, "where an array should be"},
		{"deep nesting", stump, `"feature_names":[]`, `"x":` + strings.Repeat("[", 100000), "nested too deeply"},
		{"deep nesting of objects", stump, `"feature_names":[]`, `"x":` + strings.Repeat(`{"":`, 100000), "nested too deeply"},

		{"a child past the end", lgbStump, "right_child=-2", "right_child=-3", "has a child 3"},
		{"a cycle", lgbStump, "left_child=-1", "left_child=0", "reached twice"},
		{"a split past the end", lgbStump, "left_child=-1", "left_child=1", "has a child 3"},
		{"a feature past the end", lgbStump, "split_feature=1", "split_feature=2", "max_feature_idx is 1"},
		{"a NaN threshold", lgbStump, "threshold=0.5", "threshold=nan", "has the threshold NaN"},
		{"too many leaves", lgbStump, "num_leaves=2", "num_leaves=999999999", "too short for 999999999 values"},
		{"leaves that overflow", lgbStump, "num_leaves=2", "num_leaves=99999999999999999999", "num_leaves is"},
		{"no leaves", lgbStump, "num_leaves=2", "num_leaves=0", "num_leaves is"},
		{"a list too long", lgbStump, "leaf_value=1 2", "leaf_value=1 2 3", "more than 2 values"},
		{"a list too short", lgbStump, "threshold=0.5", "threshold=", "too short"},
		{"a missing list", lgbStump, "left_child=-1\n", "", "left_child is missing"},
		{"linear trees", lgbStump, "is_linear=0", "is_linear=1", "linear trees"},
		{"an unknown decision", lgbStump, "decision_type=2", "decision_type=14", "decision_type of split 0 is 14"},
		{"a set that is not there", lgbStump, "decision_type=2", "decision_type=3", "num_cat is"},
		{"an unknown version", lgbStump, "version=v4", "version=v9", "version is \"v9\""},
		{"an unknown objective", lgbStump, "binary", "magic", `objective "magic"`},
		{"a sigmoid of 0", lgbStump, "sigmoid:1", "sigmoid:0", "not a positive number"},
		{"trees out of order", lgbStump, "Tree=0", "Tree=1", "where Tree=0 should be"},
		{"too many groups", lgbStump, "num_tree_per_iteration=1", "num_tree_per_iteration=99999", "num_tree_per_iteration is"},
		{"classes without trees", lgbStump, "num_class=1", "num_class=2", "for 2 classes"},
		{"no features", lgbStump, "max_feature_idx=1\n", "", "max_feature_idx is missing"},
		{"a line twice", lgbStump, "num_class=1", "num_class=1\nnum_class=2", `line 4: "num_class" is there twice`},
		{"a list twice", lgbStump, "leaf_value=1 2", "leaf_value=1 2\nleaf_value=2 1", `"leaf_value" is there twice`},
		{"names of another model", lgbStump, "feature_names=a b", "feature_names=a", "feature_names has 1 entries"},
		{"a cut file", lgbStump, "end of trees", "", "cut short"},
		{"a line of something else", lgbStump, "num_cat=0", "hello", "does not belong into a tree"},
	} {
		t.Run(d.what, func(t *testing.T) {
			if !strings.Contains(d.model, d.old) {
				t.Fatalf("the model does not hold %q", d.old)
			}
			e, err := ensemble.Parse([]byte(strings.Replace(d.model, d.old, d.new, 1)), ensemble.Limits{})
			if d.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if e != nil || err == nil || !strings.Contains(err.Error(), d.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v; want one sentence with %q", err, d.want)
			}
		})
	}
}

// TestTruncation cuts files everywhere: no prefix is a model.
func TestTruncation(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	e := randomEnsemble(r, ensemble.XGBoost)
	for len(e.Trees) == 0 {
		e = randomEnsemble(r, ensemble.XGBoost)
	}
	for name, data := range map[string][]byte{"json": []byte(stump), "ubjson": appendUBJSON(nil, xgboostDocument(e), false),
		"plain ubjson": appendUBJSON(nil, xgboostDocument(e), true), "text": []byte(strings.TrimSuffix(lgbStump, "\n"))} {
		if _, err := ensemble.Parse(data, ensemble.Limits{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for n := range data {
			if got, err := ensemble.Parse(data[:n:n], ensemble.Limits{}); err == nil || got != nil {
				t.Fatalf("%s: the first %d of %d bytes were taken for a model", name, n, len(data))
			}
		}
	}
}

// chain is a model of one tree that is depth splits deep.
func chain(depth int) []byte {
	t := ensemble.Tree{Scale: 1}
	for i := range int32(depth) {
		t.Nodes = append(t.Nodes, ensemble.Node{Op: ensemble.Less, Value: 1, Left: 2*i + 1, Right: 2*i + 2, Set: -1},
			ensemble.Node{Left: -1, Right: -1, Set: -1})
	}
	// Splits are nodes 0, 2, 4, ...; the right child goes on.
	t.Nodes = append(t.Nodes, ensemble.Node{Left: -1, Right: -1, Set: -1})
	for i := range t.Nodes {
		if t.Nodes[i].Op == ensemble.Less {
			t.Nodes[i].Left, t.Nodes[i].Right = int32(i)+1, int32(i)+2
		}
	}
	return appendUBJSON(nil, xgboostDocument(&ensemble.Ensemble{NumFeature: 1, Groups: 1, BaseScore: []float32{0},
		Objective: ensemble.Objective{Name: "reg:squarederror"}, Trees: []ensemble.Tree{t}}), false)
}

func TestDepth(t *testing.T) {
	if e, err := ensemble.Parse(chain(512), ensemble.Limits{}); err != nil || e.Trees[0].Depth != 512 {
		t.Fatalf("a tree at the limit: %v", err)
	}
	for _, depth := range []int{513, 10_000, 50_000} {
		if _, err := ensemble.Parse(chain(depth), ensemble.Limits{}); err == nil || !strings.Contains(err.Error(), "deeper than the limit of 512 splits") {
			t.Fatalf("a tree of depth %d: %v", depth, err)
		}
	}
}

// TestMemory bounds what readers allocate, for honest files and for ones that promise more than they hold.
func TestMemory(t *testing.T) {
	count := func(kind string, n uint64) string {
		return "{L" + string(binary.BigEndian.AppendUint64(nil, 7)) + "versionx"[:7] + "[" + kind + "#L" + string(binary.BigEndian.AppendUint64(nil, n))
	}
	inputs := map[string][]byte{
		"a count of 2^62":                  []byte(count("$l", 1<<62)),
		"a count of 2^63":                  []byte(count("$l", 1<<63)),
		"values without bytes":             []byte(count("$T", 1<<40)),
		"a count that overflows":           []byte(count("$L", 1<<61)),
		"an untyped count":                 []byte(count("", 1<<40)),
		"many empty trees":                 []byte(`{"learner":{"gradient_booster":{"model":{"trees":[` + strings.Repeat("{},", 100_000)),
		"many empty names":                 []byte(`{"learner":{"feature_names":[` + strings.Repeat(`"",`, 200_000)),
		"many parameters":                  []byte(`{"learner":{"learner_model_param":{` + strings.Repeat(`"":"",`, 100_000)),
		"a long string":                    []byte(`{"learner":{"objective":{"name":"` + strings.Repeat(`\n`, 200_000)),
		"many short numbers":               []byte(`{"version":[` + strings.Repeat("1,", 300_000)),
		"many lines":                       []byte("tree\nversion=v4\n" + strings.Repeat("a=\n", 200_000)),
		"many trees of a leaf":             []byte(strings.Split(lgbStump, "Tree=0")[0] + manyLeaves(5000) + "end of trees\n"),
		"a category of a gigabyte of bits": []byte(strings.NewReplacer(`"split_type":[0,`, `"split_type":[1,`, `"categories":[]`, `"categories":[2147483647]`).Replace(stump)),
	}
	for _, f := range testkit.Models(t) {
		for _, file := range f.Files {
			inputs[file] = readFile(t, file)
		}
	}
	for name, data := range inputs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ensemble.Parse(data, ensemble.Limits{})
		runtime.ReadMemStats(&after)
		if took, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+48*len(data)); took > most {
			t.Errorf("%s (%d bytes, %v): %d bytes were allocated in all, more than %d", name, len(data), err, took, most)
		}
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"m%d":0,`, i)
	}
	return b.String()
}

func manyLeaves(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Tree=%d\nnum_leaves=1\nleaf_value=0\n\n", i)
	}
	return b.String()
}

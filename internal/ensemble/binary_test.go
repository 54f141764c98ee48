package ensemble_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/testkit"
)

// numericEnsemble is randomEnsemble for formats without categorical splits.
func numericEnsemble(r *rand.Rand) *ensemble.Ensemble {
	e := randomEnsemble(r, ensemble.XGBoost)
	for i := range e.Trees {
		t := &e.Trees[i]
		t.Categories = nil
		for j := range t.Nodes {
			if n := &t.Nodes[j]; n.Op == ensemble.SetRight {
				n.Op, n.Set, n.Value = ensemble.Less, -1, 0.5
			}
		}
	}
	return e
}

// xgboostBinary is e as XGBoost of that version would write it; major 0 is 0.90.
func xgboostBinary(e *ensemble.Ensemble, major, minor int) []byte {
	var b []byte
	put := func(values ...int) {
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
	}
	float := func(v float64) { put(int(math.Float32bits(float32(v)))) }
	count := func(n int) { b = binary.LittleEndian.AppendUint64(b, uint64(n)) }
	text := func(s string) {
		count(len(s))
		b = append(b, s...)
	}
	if major > 0 {
		b = append(b, "binf"...)
	}
	float(float64(e.BaseScore[0]))
	put(e.NumFeature, e.Classes, 1, 1, major, minor)
	put(make([]int, 27)...)
	text(e.Objective.Name)
	text(e.Booster)
	put(len(e.Trees), 1)
	put(make([]int, 38)...)
	for i := range e.Trees {
		t := &e.Trees[i]
		put(1, len(t.Nodes), 0, 0, e.NumFeature, 0)
		put(make([]int, 31)...)
		for _, n := range t.Nodes {
			index := int(n.Feature)
			if n.DefaultLeft {
				index |= 1 << 31
			}
			right := int(n.Right)
			if n.Op == ensemble.Leaf {
				right = 0 // of a fresh leaf, this is what XGBoost leaves there
			}
			put(-1, int(n.Left), right, index)
			float(n.Value)
		}
		for _, n := range t.Nodes {
			float(1)
			float(float64(n.Cover))
			float(2)
			put(3)
		}
	}
	for i := range e.Trees {
		put(e.Trees[i].Group)
	}
	if e.Booster == "dart" && len(e.Trees) > 0 {
		count(len(e.Trees))
		for i := range e.Trees {
			float(float64(e.Trees[i].Scale))
		}
	}
	count(1)
	text("note")
	text("an attribute")
	if major == 0 {
		if e.Objective.Name == "count:poisson" {
			text("0.7")
		}
		count(2)
		text("auc")
		text("logloss")
	}
	return b
}

// TestRandomBinary writes random models in the binary format of several versions and demands the same models back.
func TestRandomBinary(t *testing.T) {
	for seed := range uint64(300) {
		e := numericEnsemble(rand.New(rand.NewPCG(seed, 11)))
		e.Format = "binary"
		for _, v := range []struct{ major, minor int }{{0, 0}, {1, 0}, {1, 3}, {1, 7}, {2, 1}} {
			e.Version = ""
			if v.major > 0 {
				e.Version = fmt.Sprintf("%d.%d", v.major, v.minor)
			}
			e.BaseLast = v.major == 0 || v.major == 1 && (v.minor < 3 || v.minor == 3 && e.Booster == "dart")
			data := xgboostBinary(e, v.major, v.minor)
			same(t, fmt.Sprintf("seed %d as XGBoost %v", seed, v), data, e)
			if v.major == 1 && v.minor < 3 {
				snapshot := binary.LittleEndian.AppendUint64([]byte("CONFIG-offset:"), uint64(len(data)))
				same(t, fmt.Sprintf("seed %d as a snapshot", seed), append(append(snapshot, data...), `{"learner":{}}`...), e)
			}
		}
	}
}

// TestBinaryBaseScore reads base scores as the versions stored them: before 1.0 as margins, since then as given.
func TestBinaryBaseScore(t *testing.T) {
	e := &ensemble.Ensemble{NumFeature: 1, Groups: 1, BaseScore: []float32{0.25}, Booster: "gbtree", Objective: ensemble.Objective{Name: "binary:logistic"}}
	for major, want := range []float32{0.25, -float32(math.Log(3))} {
		got, err := ensemble.Parse(xgboostBinary(e, major, 0), ensemble.Limits{})
		if err != nil || got.BaseMargin[0] != want {
			t.Errorf("version %d.0: %v, %v; want the margin %v", major, got, err, want)
		}
	}
	for _, name := range []string{"count:poisson", "gpu:reg:linear"} { // a text more at the end, and 0.90's other names
		e.Objective.Name = name
		if _, err := ensemble.Parse(xgboostBinary(e, 0, 0), ensemble.Limits{}); err != nil {
			t.Errorf("%s of 0.90: %v", name, err)
		}
	}
}

// binaryStump is a model of one split, and where its fields are.
func binaryStump(major int) []byte {
	leaf := func(v float64) ensemble.Node { return ensemble.Node{Value: v, Left: -1, Right: -1, Set: -1} }
	return xgboostBinary(&ensemble.Ensemble{NumFeature: 2, Groups: 1, BaseScore: []float32{0.5}, Booster: "gbtree",
		Objective: ensemble.Objective{Name: "binary:logistic"},
		Trees: []ensemble.Tree{{Scale: 1, Nodes: []ensemble.Node{
			{Op: ensemble.Less, Feature: 1, Value: 0.5, Left: 1, Right: 2, Set: -1}, leaf(1), leaf(2)}}}}, major, 7)
}

func TestBinaryDamage(t *testing.T) {
	const (
		learner   = 4
		objective = learner + 136
		booster   = objective + 8 + len("binary:logistic")
		model     = booster + 8 + len("gbtree")
		tree      = model + 160
		nodes     = tree + 148
		groups    = nodes + 3*(20+16)
		tail      = groups + 4
	)
	nan := math.Float32bits(float32(math.NaN()))
	for _, d := range []struct {
		what  string
		at    int
		value uint32
		want  string
	}{
		{"nothing", learner, math.Float32bits(0.5), ""},
		{"a NaN base score", learner, nan, "base_score is NaN"},
		{"a base score of 1", learner, math.Float32bits(1), "has no margin"},
		{"no features", learner + 4, 0, "never trained"},
		{"too many features", learner + 4, math.MaxUint32, "num_feature is"},
		{"a feature past the end", learner + 4, 1, "splits on feature 1, but num_feature is 1"},
		{"too many classes", learner + 8, 1 << 30, "num_class is"},
		{"negative classes", learner + 8, math.MaxUint32, "num_class is"},
		{"a future version", learner + 20, 4, "version [4 7]"},
		{"a negative version", learner + 20, math.MaxUint32, "version [-1 7]"},
		{"too many targets", learner + 28, 1 << 30, "num_target is"},
		{"an endless name", objective, 1 << 30, "do not fit"},
		{"a name of 2^63", objective + 4, 1 << 31, "do not fit"},
		{"an unknown objective", objective + 8, 0x61616161, `objective "aaaary:logistic" is not one Picket knows`},
		{"an unknown booster", booster + 8, 0x61616161, `booster "aaaaee" is not supported`},
		{"too many trees", model, 1 << 30, "the number of trees is 1073741824"},
		{"negative trees", model, math.MaxUint32, "the number of trees is -1"},
		{"no nodes", tree + 4, 0, "it has 0 nodes"},
		{"too many nodes", tree + 4, math.MaxInt32, "its nodes should take"},
		{"negative nodes", tree + 4, math.MaxUint32, "it has -1 nodes"},
		{"two roots", tree, 2, "2 roots"},
		{"deleted nodes that are not", tree + 8, 1, "deleted nodes is wrong"},
		{"vector leaves", tree + 20, 3, "vector leaves"},
		{"a child past the end", nodes + 8, 3, "has a child 3"},
		{"a negative child", nodes + 4, math.MaxUint32 - 1, "has a child -2"},
		{"a missing right child", nodes + 8, math.MaxUint32, "has a child -1"},
		{"a cycle", nodes + 4, 0, "reached twice"},
		{"a shared child", nodes + 8, 1, "reached twice"},
		{"a huge feature", nodes + 12, math.MaxInt32 - 1, "num_feature is 2"},
		{"a NaN threshold", nodes + 16, nan, "has the threshold NaN"},
		{"a NaN leaf", nodes + 36, nan, "has the value NaN"},
		{"a wrong group", groups, 1, "belongs to group 1"},
		{"too many attributes", tail, 1 << 20, "do not fit"},
		{"a long attribute", tail + 8, 1 << 20, "do not fit"},
	} {
		t.Run(d.what, func(t *testing.T) {
			data := binaryStump(1)
			binary.LittleEndian.PutUint32(data[d.at:], d.value)
			refusedAs(t, data, d.want)
		})
	}
	refusedAs(t, append(binaryStump(1), 0), "1 bytes follow the model")
	refusedAs(t, []byte("CONFIG-offset:\xff\xff\xff\xff\xff\xff\xff\xff"), "do not fit")
	dart := bytes.Replace(binaryStump(1), []byte("\x06\x00\x00\x00\x00\x00\x00\x00gbtree"), []byte("\x04\x00\x00\x00\x00\x00\x00\x00dart"), 1)
	refusedAs(t, dart, "reading XGBoost binary model") // the attributes are no weights
	linear := bytes.Replace(binaryStump(1), []byte("\x06\x00\x00\x00\x00\x00\x00\x00gbtree"), []byte("\x08\x00\x00\x00\x00\x00\x00\x00gblinear"), 1)
	refusedAs(t, linear, "gblinear is a linear model")
}

// refusedAs demands a refusal of one sentence, or none where want is empty.
func refusedAs(t *testing.T, data []byte, want string) {
	t.Helper()
	e, err := ensemble.Parse(data, ensemble.Limits{})
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if e != nil || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v; want one sentence with %q", err, want)
	}
}

// TestBinaryTruncation cuts files everywhere: no prefix is a model.
func TestBinaryTruncation(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	e := numericEnsemble(r)
	for len(e.Trees) == 0 || e.Booster != "dart" {
		e = numericEnsemble(r)
	}
	for name, data := range map[string][]byte{"1.7": binaryStump(1), "0.90": binaryStump(0), "dart": xgboostBinary(e, 1, 7)} {
		for n := range data {
			if got, err := ensemble.Parse(data[:n:n], ensemble.Limits{}); err == nil || got != nil {
				t.Fatalf("%s: the first %d of %d bytes were taken for a model", name, n, len(data))
			}
		}
	}
}

// TestBinaryRecognised tells files without the magic from everything else that is read here.
func TestBinaryRecognised(t *testing.T) {
	old := binaryStump(0)
	if got, err := ensemble.Recognise(old[:256]); got != "binary" {
		t.Errorf("a file of 0.90: %q, %v", got, err)
	}
	for _, f := range testkit.Models(t) {
		for _, file := range f.Files {
			want := map[string]string{"json": "json", "ubj": "ubjson", "txt": "text", "model": "binary", "onnx": "onnx"}[file[strings.LastIndexByte(file, '.')+1:]]
			if got, err := ensemble.Recognise(readFile(t, file)[:256]); got != want {
				t.Errorf("%s: %q, %v", file, got, err)
			}
		}
	}
	for what, data := range map[string][]byte{
		"zeros":            make([]byte, 4096),
		"ones":             bytes.Repeat([]byte{1}, 4096),
		"another name":     bytes.Replace(old, []byte("binary:logistic"), []byte("BINARY LOGISTIC"), 1),
		"reserve in use":   append(append([]byte(nil), old[:100]...), append([]byte{1}, old[101:]...)...),
		"half a parameter": old[:100],
	} {
		if got, err := ensemble.Recognise(data); !errors.Is(err, ensemble.ErrFormat) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// TestForeign refuses by name what is often found in the place of a model.
func TestForeign(t *testing.T) {
	for text, want := range map[string]string{
		"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x0cxgboost.core\x94\x8c\x07Booster": "pickled XGBoost booster",
		"ccopy_reg\n_reconstructor\np0\n(cxgboost.core\nBooster\n":                            "pickled XGBoost booster",
		"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x18sklearn.ensemble._forest":        "pickled scikit-learn model",
		"\x80\x02}q\x00.": "Python pickle",
		"\x04\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x02\x02\x0a\x00": "Treelite checkpoint",
		"\x03\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x02\x02\x0c\x00": "Treelite checkpoint",
	} {
		e, err := ensemble.Parse([]byte(text), ensemble.Limits{})
		if e != nil || !errors.Is(err, ensemble.ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; want a refusal with %q", text, err, want)
		}
	}
}

// deepBinary is the tree of chain in the binary format.
func deepBinary(depth int) []byte {
	e := &ensemble.Ensemble{NumFeature: 1, Groups: 1, BaseScore: []float32{0}, Booster: "gbtree",
		Objective: ensemble.Objective{Name: "reg:squarederror"}, Trees: []ensemble.Tree{deepTree(depth)}}
	return xgboostBinary(e, 1, 7)
}

func deepTree(depth int) ensemble.Tree {
	t := ensemble.Tree{Scale: 1}
	for i := range int32(depth) {
		t.Nodes = append(t.Nodes, ensemble.Node{Op: ensemble.Less, Value: 1, Left: 2*i + 1, Right: 2*i + 2, Set: -1},
			ensemble.Node{Left: -1, Right: -1, Set: -1})
	}
	t.Nodes = append(t.Nodes, ensemble.Node{Left: -1, Right: -1, Set: -1})
	return t
}

func TestNewFormatsDepth(t *testing.T) {
	for name, file := range map[string]func(int) []byte{"binary": deepBinary, "onnx": deepONNX} {
		if e, err := ensemble.Parse(file(512), ensemble.Limits{}); err != nil || e.Trees[0].Depth != 512 {
			t.Errorf("%s: a tree at the limit: %v", name, err)
		}
		for _, depth := range []int{513, 10_000, 50_000} {
			if _, err := ensemble.Parse(file(depth), ensemble.Limits{}); err == nil || !strings.Contains(err.Error(), "deeper than the limit of 512 splits") {
				t.Errorf("%s: a tree of depth %d: %v", name, depth, err)
			}
		}
	}
}

// allocates demands that reading data takes no more memory in all than a small multiple of its size.
func allocates(t *testing.T, name string, data []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ensemble.Parse(data, ensemble.Limits{})
	runtime.ReadMemStats(&after)
	if took, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+48*len(data)); took > most {
		t.Errorf("%s (%d bytes, %v): %d bytes were allocated in all, more than %d", name, len(data), err, took, most)
	}
}

func TestBinaryMemory(t *testing.T) {
	many := binaryStump(1)
	one := &ensemble.Ensemble{NumFeature: 1, Groups: 1, BaseScore: []float32{0}, Booster: "gbtree", Objective: ensemble.Objective{Name: "reg:squarederror"}}
	for range 2000 {
		one.Trees = append(one.Trees, ensemble.Tree{Nodes: []ensemble.Node{{Left: -1, Right: -1, Set: -1}}})
	}
	allocates(t, "many trees of a leaf", xgboostBinary(one, 1, 7))
	for at := 4; at+4 <= len(many); at += 4 {
		data := append([]byte(nil), many...)
		binary.LittleEndian.PutUint32(data[at:], math.MaxInt32)
		allocates(t, fmt.Sprintf("a huge number at byte %d", at), data)
	}
	allocates(t, "a deep tree", deepBinary(20_000))
}

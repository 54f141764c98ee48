package shap

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/testkit"
)

// explained is how many rows of each model the libraries were asked about.
const explained = 40

// tolerance is how far a contribution may lie from the library's, as a part of the row's largest value. XGBoost computes in
// float32, and its own sums miss the margin by as much.
const tolerance = 2e-5

func read(t testing.TB, fixture string) *ensemble.Ensemble {
	t.Helper()
	return readFile(t, testkit.Path(t, fixture))
}

func readFile(t testing.TB, path string) *ensemble.Ensemble {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e, err := ensemble.Read(f, ensemble.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func explainer(t testing.TB, e *ensemble.Ensemble) *Explainer {
	t.Helper()
	x, err := New(e)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestContributions holds the contributions to those of the libraries, for every model that they explain.
func TestContributions(t *testing.T) {
	models := 0
	for _, m := range testkit.Models(t) {
		if m.Contributions == "" {
			continue
		}
		models++
		t.Run(m.Name, func(t *testing.T) {
			x := explainer(t, read(t, m.Files[0]))
			want := testkit.ReadF32(t, m.Contributions)
			if x.Size() != m.Margins*(m.Features+1) || len(want) != explained*x.Size() {
				t.Fatalf("there are %d values of %d rows, want %d of each", len(want), explained, x.Size())
			}
			data := testkit.Rows(explained, m.Features)
			w, got, worst := x.NewWorkspace(), make([]float32, x.Size()), 0.0
			for r := range explained {
				x.Row(w, data[r*m.Features:(r+1)*m.Features], got)
				row := want[r*x.Size() : (r+1)*x.Size()]
				scale := 0.0
				for _, v := range row {
					scale = max(scale, math.Abs(float64(v)))
				}
				for i, v := range row {
					off := math.Abs(float64(got[i])-float64(v)) / scale
					if worst = max(worst, off); !(off <= tolerance) {
						t.Fatalf("row %d: value %d is %v, the library says %v", r, i, got[i], v)
					}
				}
			}
			t.Logf("within %.1e of the row's largest", worst)
		})
	}
	if models < 30 {
		t.Errorf("the libraries explain %d models only", models)
	}
}

// TestSumIsTheMargin adds the contributions of many rows up.
func TestSumIsTheMargin(t *testing.T) {
	for _, name := range []string{"fraud-1.7.6", "dart-1.7.6", "multi-softprob-3.2.0", "binary-3.3.5", "zero-as-missing-4.7.0", "categorical-4.7.0"} {
		m := testkit.ModelNamed(t, name)
		e := read(t, m.Files[0])
		x := explainer(t, e)
		n := 250
		data := testkit.Rows(n, m.Features)
		w, got, margins := x.NewWorkspace(), make([]float32, x.Size()), make([]float32, e.Groups)
		for r := range n {
			row := data[r*m.Features : (r+1)*m.Features]
			x.Row(w, row, got)
			if err := e.Margin(row, margins); err != nil {
				t.Fatal(err)
			}
			for g, margin := range margins {
				sum, scale := 0.0, 1.0
				for _, v := range got[g*(m.Features+1) : (g+1)*(m.Features+1)] {
					sum += float64(v)
					scale += math.Abs(float64(v))
				}
				if math.Abs(sum-float64(margin)) > 1e-5*scale {
					t.Fatalf("%s, row %d: the contributions come to %v, the margin is %v", name, r, sum, margin)
				}
			}
		}
	}
}

// TestDefinition compares trees of chance, deep ones with few features and shallow ones with many, with Shapley's own sum over
// all sets of features.
func TestDefinition(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		features := 1 + random.IntN(11)
		e := &ensemble.Ensemble{Library: ensemble.LightGBM, NumFeature: features, Groups: 1, BaseMargin: []float32{0}, Trees: []ensemble.Tree{grow(random, features)}}
		x := explainer(t, e)
		row, got := make([]float32, features), make([]float32, x.Size())
		for range 5 {
			for i := range row {
				row[i] = float32(random.IntN(10))
			}
			x.Row(x.NewWorkspace(), row, got)
			for i, want := range shapley(&e.Trees[0], row) {
				if math.Abs(float64(got[i])-want) > 1e-6*(1+math.Abs(want)) {
					t.Fatalf("%d features, %d nodes: feature %d contributes %v, by definition %v", features, len(e.Trees[0].Nodes), i, got[i], want)
				}
			}
		}
	}
}

// TestPartsAreTheWalk: whatever room there is for tables, the contributions are those of walking all trees.
func TestPartsAreTheWalk(t *testing.T) {
	for _, name := range []string{"fraud-1.7.6", "binary-3.3.5", "multiclass-4.7.0", "categorical-3.2.0", "single-leaf-3.2.0"} {
		m := testkit.ModelNamed(t, name)
		e := read(t, m.Files[0])
		var want []float32
		for _, lines := range []int{0, 50, 500, 5000, maxLines} {
			x, err := newExplainer(e, lines)
			if err != nil {
				t.Fatal(err)
			}
			if len(x.lines) > lines {
				t.Errorf("%s: there are %d lines, at most %d were to be", name, len(x.lines), lines)
			}
			if splits := len(x.splits) > 0; lines == 0 && splits != (len(x.walked) > 0) || lines == maxLines && len(x.walked) > 0 {
				t.Errorf("%s: with %d lines, %d trees are walked", name, lines, len(x.walked))
			}
			w, got := x.NewWorkspace(), make([]float32, 20*x.Size())
			for r, row := range slices.Collect(slices.Chunk(testkit.Rows(20, m.Features), m.Features)) {
				x.Row(w, row, got[r*x.Size():(r+1)*x.Size()])
			}
			if want == nil {
				want = got
			}
			for i, v := range want {
				if math.Abs(float64(got[i]-v)) > 1e-6*math.Abs(float64(v))+1e-12 {
					t.Fatalf("%s: with %d lines, value %d is %v; walked, it is %v", name, lines, i, got[i], v)
				}
			}
		}
	}
}

// TestSplits holds where rows go to what the model says, for the thresholds themselves, what lies beside them, and what is no number.
func TestSplits(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, name := range []string{"fraud-1.7.6", "binary-3.3.5", "categorical-3.2.0", "categorical-4.7.0", "no-missing-3.3.5", "zero-as-missing-4.7.0"} {
		e := read(t, testkit.ModelNamed(t, name).Files[0])
		x := explainer(t, e)
		inf := float32(math.Inf(1))
		values := make([][]float32, e.NumFeature)
		for f := range values {
			values[f] = []float32{float32(math.NaN()), 0, float32(math.Copysign(0, -1)), inf, -inf, ensemble.ZeroThreshold, 1e-30}
		}
		for i := range e.Trees {
			for _, n := range e.Trees[i].Nodes {
				if v := float32(n.Value); n.Op != ensemble.Leaf {
					values[n.Feature] = append(values[n.Feature], v, math.Nextafter32(v, inf), math.Nextafter32(v, -inf), float32(random.IntN(20)))
				}
			}
		}
		w, row := x.NewWorkspace(), make([]float32, e.NumFeature)
		for range 500 {
			for f := range row {
				row[f] = values[f][random.IntN(len(values[f]))]
			}
			x.ask(row, w.goes)
			for i := range e.Trees {
				goes := w.goes[x.roots[i]:]
				for n := int32(0); ; { // the way of the row, all of whose nodes it goes to
					node := &e.Trees[i].Nodes[n]
					if goes[n] != 1 {
						t.Fatalf("%s: tree %d: the row does not go to node %d", name, i, n)
					}
					if node.Op == ensemble.Leaf {
						break
					}
					next, other := node.Left, node.Right
					if !e.Trees[i].GoesLeft(node, row[node.Feature]) {
						next, other = other, next
					}
					if goes[other] != 0 {
						t.Fatalf("%s: tree %d: with %v, the row goes to node %d, too", name, i, row[node.Feature], other)
					}
					n = next
				}
			}
		}
	}
}

// grow makes a tree of chance with up to 12 levels.
func grow(random *rand.Rand, features int) ensemble.Tree {
	t := ensemble.Tree{Scale: 1}
	var node func(depth int, cover float32) int32
	node = func(depth int, cover float32) int32 {
		i := int32(len(t.Nodes))
		t.Nodes = append(t.Nodes, ensemble.Node{Value: random.NormFloat64(), Cover: cover, Left: -1, Right: -1, Set: -1})
		if depth < 12 && cover >= 2 && (depth == 0 || random.IntN(5) > 0) {
			share := float32(1 + random.IntN(int(cover)-1))
			left := node(depth+1, share)
			right := node(depth+1, cover-share)
			n := &t.Nodes[i]
			n.Op, n.Feature, n.Value, n.Left, n.Right = ensemble.LessEqual, int32(random.IntN(features)), float64(random.IntN(10)), left, right
		}
		return i
	}
	node(0, 1000)
	return t
}

// shapley is the contributions by definition, and the expectation.
func shapley(t *ensemble.Tree, row []float32) []float64 {
	n := len(row)
	value := make([]float64, 1<<n)
	for set := range value {
		value[set] = knowing(t, 0, set, row)
	}
	weight := make([]float64, n) // of a set of so many among the others
	for k := range weight {
		weight[k] = math.Exp(lgamma(k+1) + lgamma(n-k) - lgamma(n+1))
	}
	out := make([]float64, n+1)
	for i := range n {
		for set := range value {
			if set>>i&1 == 0 {
				size := 0
				for j := range n {
					size += set >> j & 1
				}
				out[i] += weight[size] * (value[set|1<<i] - value[set])
			}
		}
	}
	out[n] = value[0]
	return out
}

func lgamma(n int) float64 {
	v, _ := math.Lgamma(float64(n))
	return v
}

// knowing is the expectation below node i where the features in set are known.
func knowing(t *ensemble.Tree, i int32, set int, row []float32) float64 {
	n := &t.Nodes[i]
	switch {
	case n.Op == ensemble.Leaf:
		return n.Value
	case set>>n.Feature&1 == 0:
		l, r := &t.Nodes[n.Left], &t.Nodes[n.Right]
		return (knowing(t, n.Left, set, row)*float64(l.Cover) + knowing(t, n.Right, set, row)*float64(r.Cover)) / float64(n.Cover)
	case t.GoesLeft(n, row[n.Feature]):
		return knowing(t, n.Left, set, row)
	}
	return knowing(t, n.Right, set, row)
}

// TestManyFeaturesOnTheWay: a tree that asks for more features, one after the other, than one walk is exact for.
func TestManyFeaturesOnTheWay(t *testing.T) {
	const depth = 100
	tree := ensemble.Tree{Scale: 1}
	for i := range depth {
		cover := float32(2*depth - i)
		tree.Nodes = append(tree.Nodes,
			ensemble.Node{Op: ensemble.LessEqual, Feature: int32(i), Cover: cover, Left: int32(2*i + 1), Right: int32(2*i + 2), Set: -1},
			ensemble.Node{Value: float64(i), Cover: 1, Left: -1, Right: -1, Set: -1})
	}
	tree.Nodes = append(tree.Nodes, ensemble.Node{Value: -1, Cover: depth, Left: -1, Right: -1, Set: -1})
	e := &ensemble.Ensemble{Library: ensemble.LightGBM, NumFeature: depth, Groups: 1, BaseMargin: []float32{0}, Trees: []ensemble.Tree{tree}}
	x := explainer(t, e)
	row, got, margin := make([]float32, depth), make([]float32, x.Size()), make([]float32, 1)
	for last := range depth {
		clear(row)
		for i := range last {
			row[i] = 1
		}
		x.Row(x.NewWorkspace(), row, got)
		if err := e.Margin(row, margin); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, v := range got {
			sum += float64(v)
		}
		if math.Abs(sum-float64(margin[0])) > 1e-4 {
			t.Fatalf("with %d known, the contributions come to %v, the margin is %v", last, sum, margin[0])
		}
	}
}

func TestWhatCannotBeExplained(t *testing.T) {
	binary := func() *ensemble.Ensemble { return read(t, testkit.ModelNamed(t, "binary-3.2.0").Files[0]) }
	without, nothing := binary(), binary()
	for i := range without.Trees {
		for j := range without.Trees[i].Nodes {
			without.Trees[i].Nodes[j].Cover = 0
		}
	}
	first := &nothing.Trees[1]
	first.Nodes[first.Nodes[0].Left].Cover = 0
	for want, e := range map[string]*ensemble.Ensemble{
		"ONNX files do not say": read(t, testkit.ModelNamed(t, "forest-binary-1.20.1").Files[0]),
		"tree 0: the file says": without,
		"tree 1: the file says": nothing,
	} {
		if x, err := New(e); x != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New gives %v, %v; want an error that says %q", x, err, want)
		}
	}
}

func TestRowDoesNotAllocate(t *testing.T) {
	m := testkit.ModelNamed(t, "fraud-1.7.6")
	x := explainer(t, read(t, m.Files[0]))
	w, row, out := x.NewWorkspace(), testkit.Rows(1, m.Features), make([]float32, x.Size())
	if n := testing.AllocsPerRun(20, func() { x.Row(w, row, out) }); n > 0 {
		t.Errorf("a row takes %v allocations", n)
	}
}

// BenchmarkRow is the time of one row of each of the models that docs/performance.md names.
func BenchmarkRow(b *testing.B) {
	for _, file := range []string{
		testkit.Path(b, testkit.ModelNamed(b, "fraud-1.7.6").Files[0]),
		testkit.Path(b, testkit.ModelNamed(b, "binary-3.3.5").Files[0]),
		filepath.Join(testkit.ModuleRoot(), "examples/fraud/model/1/fraud.ubj"),
	} {
		e := readFile(b, file)
		x := explainer(b, e)
		rows := testkit.Rows(256, e.NumFeature)
		w, out := x.NewWorkspace(), make([]float32, x.Size())
		b.Run(filepath.Base(file), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				r := i % 256
				x.Row(w, rows[r*e.NumFeature:(r+1)*e.NumFeature], out)
			}
		})
	}
}

package compile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
)

// thresholds are values at which a comparison may go wrong.
func thresholds(r *rand.Rand) float64 {
	list := []float64{0, math.Copysign(0, -1), 1e-40, -1e-40, 1e-35, -1e-35, float64(ensemble.ZeroThreshold), 5e-324, -5e-324, 1e-310, 0.1, -0.1,
		1, -1, 16777216.5, math.MaxFloat32, -math.MaxFloat32, 3.4028235e38 * 1.0000001, -3.5e38, 1e300, -1e300, math.Inf(1), math.Inf(-1)}
	if i := r.IntN(len(list) + 8); i < len(list) {
		return list[i]
	}
	return r.NormFloat64()
}

// grow makes a node at a depth and what is below it, down to most.
func grow(r *rand.Rand, t *ensemble.Tree, lib ensemble.Library, features, depth, most int) int32 {
	i := int32(len(t.Nodes))
	t.Depth = max(t.Depth, depth)
	t.Nodes = append(t.Nodes, ensemble.Node{Left: -1, Right: -1, Set: -1, Value: r.NormFloat64(), Cover: float32(r.IntN(3))})
	if lib == ensemble.XGBoost {
		t.Nodes[i].Value = float64(float32(t.Nodes[i].Value))
	}
	if depth == most || r.IntN(6) == 0 {
		return i
	}
	n := ensemble.Node{Op: ensemble.LessEqual, Feature: int32(r.IntN(features)), Value: thresholds(r), DefaultLeft: r.IntN(2) == 0, Missing: ensemble.Missing(r.IntN(3)), Set: -1}
	if lib == ensemble.XGBoost {
		n.Op, n.Value, n.Missing = ensemble.Less, float64(float32(n.Value)), ensemble.MissingNaN
	}
	n.Cover = float32(r.IntN(3))
	n.Left = grow(r, t, lib, features, depth+1, most)
	n.Right = grow(r, t, lib, features, depth+1, most)
	t.Nodes[i] = n
	return i
}

func randomEnsemble(r *rand.Rand) *ensemble.Ensemble {
	lib := []ensemble.Library{ensemble.XGBoost, ensemble.LightGBM, ensemble.ONNX}[r.IntN(3)]
	e := &ensemble.Ensemble{Library: lib, NumFeature: 1 + r.IntN(40), Groups: 1 + 2*r.IntN(2), BaseLast: lib == ensemble.XGBoost && r.IntN(4) == 0,
		Average: lib == ensemble.LightGBM && r.IntN(2) == 0}
	kinds := []ensemble.Transform{ensemble.Identity, ensemble.Sigmoid, ensemble.Exponential, ensemble.Softmax, ensemble.MaxIndex, ensemble.Hinge}
	if lib == ensemble.LightGBM {
		kinds = []ensemble.Transform{ensemble.Identity, ensemble.Sigmoid, ensemble.Exponential, ensemble.Softmax, ensemble.SignedSquare, ensemble.LogOnePlusExp}
	}
	if lib == ensemble.ONNX {
		e.Double = r.IntN(2) == 0
		e.BaseLast, e.Average = !e.Double, r.IntN(4) == 0
		kinds = []ensemble.Transform{ensemble.Identity, ensemble.Sigmoid, ensemble.Sigmoid, ensemble.Softmax, ensemble.Softmax}
	}
	if e.Groups == 1 {
		kinds[3], kinds[4] = ensemble.Identity, ensemble.Sigmoid
	}
	e.Objective = ensemble.Objective{Transform: kinds[r.IntN(len(kinds))], SigmoidAlpha: 1}
	if lib == ensemble.LightGBM && r.IntN(2) == 0 {
		e.Objective.SigmoidAlpha = 0.7
	}
	used := 1 + r.IntN(e.NumFeature) // not every column need be used
	e.BaseMargin = make([]float32, e.Groups)
	for g := range e.BaseMargin {
		if lib == ensemble.XGBoost || e.BaseLast {
			e.BaseMargin[g] = float32(r.NormFloat64())
		}
	}
	for i := range e.Groups * (1 + r.IntN(12)) {
		t := ensemble.Tree{Group: i % e.Groups, Scale: 1}
		if lib == ensemble.XGBoost && r.IntN(2) == 0 {
			t.Scale = r.Float32()
		}
		grow(r, &t, lib, used, 0, r.IntN(9))
		if lib == ensemble.ONNX {
			asONNX(r, &t, e.Double)
		}
		e.Trees = append(e.Trees, t)
	}
	return e
}

// asONNX makes t one that the reader of ONNX files could give: both comparisons, float64 only where the model is.
func asONNX(r *rand.Rand, t *ensemble.Tree, double bool) {
	for i := range t.Nodes {
		n := &t.Nodes[i]
		n.Missing = ensemble.MissingNaN
		if n.Op != ensemble.Leaf && r.IntN(2) == 0 {
			n.Op = ensemble.Less
		}
		if !double || n.Op == ensemble.Less {
			n.Value = float64(float32(n.Value))
		}
	}
}

// cell is a value at, just below or just above a threshold of e, or one that is special.
func cell(r *rand.Rand, e *ensemble.Ensemble) float32 {
	special := []float32{0, float32(math.Copysign(0, -1)), 1e-45, -1e-45, ensemble.ZeroThreshold, -ensemble.ZeroThreshold,
		math.Nextafter32(ensemble.ZeroThreshold, 1), math.Float32frombits(0xffffffff), math.Float32frombits(0x7fc00000),
		math.Float32frombits(0xffc00000), math.Float32frombits(0x7f800001), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, -math.MaxFloat32}
	if r.IntN(3) == 0 {
		return special[r.IntN(len(special))]
	}
	t := &e.Trees[r.IntN(len(e.Trees))]
	v := float32(t.Nodes[r.IntN(len(t.Nodes))].Value)
	switch r.IntN(3) {
	case 0:
		return math.Nextafter32(v, float32(math.Inf(1)))
	case 1:
		return math.Nextafter32(v, float32(math.Inf(-1)))
	}
	return v
}

// TestRandomEnsembles compiles models that no trainer would make and compares with the reference on values chosen to
// fall on the edges: margins bit for bit.
func TestRandomEnsembles(t *testing.T) {
	for seed := range uint64(48) {
		engine := engines()[seed/36%uint64(len(engines()))]
		t.Run(fmt.Sprint(seed, engine.Name), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 11))
			e := randomEnsemble(r)
			library := buildLibrary(t, engine, e)
			const n = 2000
			rows := make([]float32, n*e.NumFeature)
			for i := range rows {
				rows[i] = cell(r, e)
			}
			margins, _ := drive(t, library, rows, e.NumFeature, true)
			predictions, _ := drive(t, library, rows, e.NumFeature, false)
			if len(margins) != n*e.Groups || len(predictions) != n*e.Outputs() {
				t.Fatalf("%d margins and %d predictions for %d rows of %d groups", len(margins), len(predictions), n, e.Groups)
			}
			wantM, wantP := make([]float32, e.Groups), make([]float32, e.Outputs())
			for i := range n {
				row := rows[i*e.NumFeature : (i+1)*e.NumFeature]
				if err := e.Margin(row, wantM); err != nil {
					t.Fatal(err)
				}
				if err := e.Predict(row, wantP); err != nil {
					t.Fatal(err)
				}
				equalBits(t, fmt.Sprintf("margins of row %v", row), margins[i*e.Groups:(i+1)*e.Groups], wantM)
				for j, want := range wantP {
					if got := predictions[i*e.Outputs()+j]; ulps(got, want) > 2 {
						t.Fatalf("row %v, %v: prediction %v, want %v", row, e.Objective.Transform, got, want)
					}
				}
			}
		})
	}
}

// TestLarge compiles a model of one tree with 16,383 splits, each on a column of its own: the largest function, and
// working memory that does not go on the stack.
func TestLarge(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	const depth = 14
	tree := ensemble.Tree{Scale: 1, Depth: depth}
	for i := range int32(1<<(depth+1) - 1) {
		n := ensemble.Node{Value: float64(r.Float32()), Left: -1, Right: -1, Set: -1}
		if i < 1<<depth-1 {
			n.Op, n.Feature, n.Left, n.Right, n.DefaultLeft = ensemble.Less, i, 2*i+1, 2*i+2, i%2 == 0
		}
		tree.Nodes = append(tree.Nodes, n)
	}
	e := &ensemble.Ensemble{Library: ensemble.XGBoost, NumFeature: 1<<depth - 1, Groups: 1, BaseMargin: []float32{0.5},
		Objective: ensemble.Objective{SigmoidAlpha: 1}, Trees: []ensemble.Tree{tree}}
	const n = 50
	rows := make([]float32, n*e.NumFeature)
	for i := range rows {
		rows[i] = r.Float32()
		if r.IntN(10) == 0 {
			rows[i] = float32(math.NaN())
		}
	}
	want := make([]float32, n)
	for i := range n {
		if err := e.Margin(rows[i*e.NumFeature:(i+1)*e.NumFeature], want[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, engine := range engines() {
		got, _ := drive(t, buildLibrary(t, engine, e), rows, e.NumFeature, true)
		equalBits(t, "margins by "+engine.Name, got, want)
	}
}

// buildLibrary compiles e to a library in a temporary folder.
func buildLibrary(t *testing.T, engine Engine, e *ensemble.Ensemble) string {
	t.Helper()
	machine, err := findTarget("", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	command, err := findCompiler(machine, "", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.files(e, machine.arch)
	if err != nil {
		t.Fatal(err)
	}
	data, err := build(t.Context(), &toolchain{command: command, target: machine, dir: t.TempDir()}, files, Options{Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), libraryName)
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKey holds the two facts that compiled comparisons rest on: integers sort like values, and x <= t on float64 is
// x <= roundDown(t) on float32.
func TestKey(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 1_000_000 {
		a, b := math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32())
		if r.IntN(4) == 0 {
			b = math.Float32frombits(math.Float32bits(a) + uint32(r.IntN(3)) - 1)
		}
		if a != a || b != b {
			continue
		}
		if (a < b) != (key(a) < key(b)) || (a == b) != (key(a) == key(b)) {
			t.Fatalf("%v and %v: keys %d and %d", a, b, key(a), key(b))
		}
		v := float64(b) + float64(b)*1e-9*r.NormFloat64()
		if r.IntN(8) == 0 {
			v = thresholds(r)
		}
		if down := roundDown(v); (float64(a) <= v) != (a <= down) || (float64(a) <= v) != (key(a) < key(down)+1) {
			t.Fatalf("%v <= %v is %v, but roundDown gives %v", a, v, float64(a) <= v, down)
		}
	}
}

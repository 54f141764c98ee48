//go:build cgo && linux && amd64

package treelite_test

import (
	"encoding/json"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// artifact is a line of testdata/treelite/index.json.
type artifact struct {
	Name, Dir, Tool, Version, Model string
	Meta                            bool
}

// source is a line of testdata/models/index.json: the model that an artifact was
// compiled from, and what its trainer predicts for the rows of testkit.
type source struct {
	Name, Library, Prediction string
	Features, Rows, Outputs   int
}

// tolerance is how far an artifact may be from its trainer: nothing, where it adds
// up in the trainer's order and precision. With parallel_comp Treelite adds up in
// parts, TL2cgen adds the base score last, XGBoost's softmax sums in another
// order, and Treelite 0.93 computes in float32 what LightGBM does in float64.
func tolerance(a artifact) float64 {
	switch {
	case a.Name == "fraud-serial-tl0.93", a.Name == "lightgbm-tl1.3.0", a.Name == "lightgbm-tl2cgen1.0.0", strings.HasPrefix(a.Name, "multi-softmax"):
		return 0
	case strings.HasPrefix(a.Name, "regression"):
		return 1e-6
	}
	return 2e-7
}

func readJSON[T any](t *testing.T, name string) []T {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
	if len(out) == 0 {
		t.Fatalf("%s is empty", name)
	}
	return out
}

// answers are the trainer's, rounded to what clients get.
func answers(t *testing.T, name string) []float32 {
	t.Helper()
	if path.Ext(name) != ".f64" {
		return testkit.ReadF32(t, name)
	}
	var out []float32
	for _, v := range testkit.ReadF64(t, name) {
		out = append(out, float32(v))
	}
	return out
}

// TestArtifacts runs the suite on every generation of compiled tree model.
func TestArtifacts(t *testing.T) {
	models := readJSON[source](t, "models/index.json")
	symbols := map[string]bool{}
	for _, a := range readJSON[artifact](t, "treelite/index.json") {
		library := "xgboost"
		if strings.HasPrefix(a.Name, "lightgbm") {
			library = "lightgbm"
		}
		at := slices.IndexFunc(models, func(s source) bool { return s.Name == a.Model && s.Library == library })
		if at < 0 {
			t.Fatalf("%s was compiled from %s, which models/index.json does not list", a.Name, a.Model)
		}
		m := models[at]
		symbol := "get_num_class"
		switch {
		case a.Tool == "tl2cgen":
			symbol = "get_num_target"
		case strings.HasPrefix(a.Version, "0."):
			symbol = "get_num_output_group"
		}
		symbols[symbol] = true
		// The metadata of the fixtures says, as Neo's does, that zeros are missing;
		// the trainers do not think so. A tiny number is on zero's side of every
		// split and is no zero.
		rows := testkit.Rows(m.Rows, m.Features)
		if a.Meta {
			rows = testkit.RowsNoZeros(m.Rows, m.Features)
		}
		t.Run(a.Name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Case{
				Backend: treelite.New(),
				Dir:     testkit.Path(t, a.Dir),
				Library: "compiled.so",
				Symbol:  symbol,
				Signature: engine.Signature{
					Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, int64(m.Features)}}},
					Outputs: []engine.TensorSpec{{Name: "output", DType: tensor.FP32, Dims: []int64{-1, int64(m.Outputs)}}},
				},
				Input:         rows,
				Expected:      answers(t, m.Prediction),
				Tolerance:     tolerance(a),
				NaNIsMissing:  true,
				ZeroIsMissing: a.Meta,
			})
		})
	}
	if len(symbols) != 3 {
		t.Errorf("the fixtures are of %d generations, want 3", len(symbols))
	}
}

// TestRunAllocatesNothing holds the hot path to its promise.
func TestRunAllocatesNothing(t *testing.T) {
	m := backendtest.Open(t, treelite.New(), testkit.Path(t, "treelite/fraud-tl1.3.0"))
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, err := tensor.New("data", tensor.FP32, tensor.MustShape(8, 30))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Buffer.Release()
	out, err := tensor.New("output", tensor.FP32, tensor.MustShape(8, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Buffer.Release()
	values, err := tensor.View[float32](in)
	if err != nil {
		t.Fatal(err)
	}
	copy(values, testkit.Rows(8, 30))
	ins, outs := []tensor.Tensor{in}, []tensor.Tensor{out}
	if n := testing.AllocsPerRun(1000, func() {
		if err := i.Run(ins, outs, 8); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Run allocates %v times a call", n)
	}
}

package forest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// folderOf is a folder with nothing but the fixture, under that name.
func folderOf(t testing.TB, fixture, name string) string {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, fixture))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestConformance runs the suite on a model file of every format, alone in its folder: every name does, SageMaker's too.
func TestConformance(t *testing.T) {
	for _, c := range []struct{ model, extension, name string }{
		{"binary-3.2.0", ".json", "model.json"},
		{"multi-softprob-3.2.0", ".ubj", "xgboost-model"},
		{"binary-0.90", ".model", "xgboost-model"},
		{"multi-softprob-1.7.6", ".model", "xgboost-model"},
		{"multi-softmax-1.7.6", ".json", "model.json"},
		{"categorical-4.7.0", ".txt", "model.txt"},
		{"multiclass-3.3.5", ".txt", "lightgbm"},
		{"forest-multi-1.20.1", ".onnx", "model.onnx"},
		{"hist-multi-f64-1.20.1", ".onnx", "graph"},
	} {
		f := testkit.ModelNamed(t, c.model)
		at := slices.IndexFunc(f.Files, func(file string) bool { return strings.HasSuffix(file, c.extension) })
		if at < 0 {
			t.Fatalf("%s has no file %s", c.model, c.extension)
		}
		var expected []float32
		for _, v := range answers(t, f.Prediction) {
			expected = append(expected, float32(v))
		}
		t.Run(c.model+" as "+c.name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Case{
				Backend: New(),
				Dir:     folderOf(t, f.Files[at], c.name),
				Model:   c.name,
				Signature: engine.Signature{
					Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, int64(f.Features)}}},
					Outputs: []engine.TensorSpec{{Name: "output", DType: tensor.FP32, Dims: []int64{-1, int64(f.Outputs)}}},
				},
				Input:        testkit.Rows(f.Rows, f.Features),
				Expected:     expected,
				Tolerance:    2.4e-7, // two units in the last place below 1: the transform's
				NaNIsMissing: true,
				Cycles:       50,
			})
		})
	}
}

// TestONNX holds the predictions for every ONNX file of trees, alone in its folder, against ONNX Runtime's.
func TestONNX(t *testing.T) {
	found := 0
	for _, f := range testkit.Models(t) {
		if f.Library != "onnx" {
			continue
		}
		found++
		t.Run(f.Name, func(t *testing.T) {
			dir := folderOf(t, f.Files[0], "model.onnx")
			if n := New().Match(backendtest.Artifact(t, dir)); n != matchGraph {
				t.Errorf("Match gives %d, want %d", n, matchGraph)
			}
			r := backendtest.NewRunner(t, backendtest.Open(t, New(), dir))
			defer r.Close()
			got := r.Run(testkit.Rows(f.Rows, f.Features))
			for i, want := range answers(t, f.Prediction) {
				if d := max(got[i]-float32(want), float32(want)-got[i]); d > 2.4e-7*max(1, float32(want), -float32(want)) {
					t.Fatalf("answer %d is %v, ONNX Runtime says %v", i, got[i], want)
				}
			}
		})
	}
	if found < 10 {
		t.Errorf("there are %d ONNX files", found)
	}
}

// TestOtherGraphs leaves ONNX files of anything else to other backends, by name, and refuses damaged ones for good.
func TestOtherGraphs(t *testing.T) {
	data, err := os.ReadFile(testkit.Path(t, testkit.ModelNamed(t, "forest-binary-1.20.1").Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, with string) []byte {
		if len(old) != len(with) || !strings.Contains(string(data), old) {
			t.Fatalf("BUG: %q cannot be put in the place of %q", with, old)
		}
		return []byte(strings.ReplaceAll(string(data), old, with))
	}
	for what, c := range map[string]struct {
		data []byte
		kind error
		want string
	}{
		"a network":              {replace("TreeEnsembleClassifier", "ConvolutionOperations!"), engine.ErrUnsupported, "ConvolutionOperations!"},
		"another way to compare": {replace("BRANCH_LEQ", "BRANCH_NEQ"), engine.ErrUnsupported, "BRANCH_NEQ"},
		"a cut file":             {data[:len(data)/2], engine.ErrArtifact, "cut short"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "model.onnx"), c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := New().Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
			if m != nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open gives %v, %v; want %v that says %q", m, err, c.kind, c.want)
			}
		})
	}
}

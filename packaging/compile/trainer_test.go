package compile

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/testkit"
)

// refusal is what a model that the engine cannot compile must be refused with, or "".
func refusal(f testkit.Model, engine string) string {
	switch {
	case strings.HasPrefix(f.Name, "gblinear"):
		return "gblinear"
	case strings.HasPrefix(f.Name, "multi-output-tree"):
		return "vector leaves"
	case strings.Contains(f.Name, "linear-tree"):
		return "linear trees"
	case strings.Contains(f.Name, "categorical") && engine == EngineBranches:
		return "categorical splits are not supported"
	}
	return ""
}

// expected reads outputs that may be stored as float32 or as float64, rounded to float32.
func expected(t *testing.T, name string) []float32 {
	if !strings.HasSuffix(name, ".f64") {
		return testkit.ReadF32(t, name)
	}
	var out []float32
	for _, v := range testkit.ReadF64(t, name) {
		out = append(out, float32(v))
	}
	return out
}

// ulps is how many float32 values lie between a and b.
func ulps(a, b float32) int64 {
	d := int64(key(a)) - int64(key(b))
	return max(d, -d)
}

func equalBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// TestTrainer compiles the committed models by each engine and holds the artifacts against the trainers' answers and, over
// 10,000 rows with missing values, against the reference: margins bit for bit, predictions within 2 units in the last place.
func TestTrainer(t *testing.T) {
	for _, f := range testkit.Models(t) {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			var want *reference // the slowest part, and the same for all engines
			for _, engine := range engines() {
				t.Run(engine.Name, func(t *testing.T) {
					dir := filepath.Join(t.TempDir(), "artifact")
					result, err := Run(t.Context(), Options{Source: testkit.Path(t, f.Files[0]), Out: dir, Engine: engine, Jobs: 1})
					if want := refusal(f, engine.Name); want != "" {
						if err == nil || !strings.Contains(err.Error(), want) {
							t.Fatalf("got %v; want a refusal that says %q", err, want)
						}
						if _, err := os.Stat(dir); !os.IsNotExist(err) {
							t.Fatalf("a refused model left a folder behind: %v", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if want == nil {
						want = referenceOf(t, f)
					}
					if result.Outputs != f.Outputs || result.Features != f.Features || result.Trees != len(want.model.Trees) {
						t.Fatalf("got %+v", result)
					}
					if copied, err := os.ReadFile(filepath.Join(dir, sourceName(want.model.Format))); err != nil || !bytes.Equal(copied, want.data) {
						t.Fatalf("the source model beside the artifact differs: %v", err)
					}
					checkArtifact(t, f, want, filepath.Join(dir, libraryName))
				})
			}
		})
	}
}

// reference is what package ensemble says of a fixture and of rows.
type reference struct {
	data                       []byte
	model                      *ensemble.Ensemble
	rows, margins, predictions []float32
}

func referenceOf(t *testing.T, f testkit.Model) *reference {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, f.Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	e, err := ensemble.Parse(data, ensemble.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 10_000
	w := &reference{data: data, model: e, rows: testkit.Rows(n, f.Features), margins: make([]float32, n*f.Margins), predictions: make([]float32, n*f.Outputs)}
	for r := range n {
		row := w.rows[r*f.Features : (r+1)*f.Features]
		if err := e.Margin(row, w.margins[r*f.Margins:(r+1)*f.Margins]); err != nil {
			t.Fatal(err)
		}
		if err := e.Predict(row, w.predictions[r*f.Outputs:(r+1)*f.Outputs]); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func checkArtifact(t *testing.T, f testkit.Model, want *reference, library string) {
	margins, facts := drive(t, library, want.rows, f.Features, true)
	predictions, _ := drive(t, library, want.rows, f.Features, false)
	function := "predict"
	if f.Margins > 1 {
		function = "predict_multiclass"
	}
	if want := fmt.Sprintf("[%d %d %d %s float32 float32", f.Margins, f.Margins, f.Features, transformName(want.model)); !strings.HasPrefix(fmt.Sprint(facts), want) || facts[len(facts)-1] != function {
		t.Fatalf("the artifact says %v; want %s ... %s]", facts, want, function)
	}
	equalBits(t, "margins against the trainer", margins[:f.Rows*f.Margins], expected(t, f.Margin))
	equalBits(t, "margins against the reference", margins, want.margins)
	if len(predictions) != len(want.predictions) {
		t.Fatalf("%d predictions, want %d", len(predictions), len(want.predictions))
	}
	trainer := expected(t, f.Prediction)
	for i := range predictions {
		if d := ulps(predictions[i], want.predictions[i]); d > 2 {
			t.Fatalf("prediction %d is %v, the reference says %v (%d units in the last place)", i, predictions[i], want.predictions[i], d)
		}
		if i < len(trainer) && ulps(predictions[i], trainer[i]) > 2 {
			t.Fatalf("prediction %d is %v, the trainer says %v", i, predictions[i], trainer[i])
		}
	}
}

// TestCancel stops in the middle and leaves nothing.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	parent := t.TempDir()
	_, err := Run(ctx, Options{Source: testkit.Path(t, "models/xgboost/fraud-1.7.6.ubj"), Out: filepath.Join(parent, "artifact"),
		Progress: func(done, total int, what string) { cancel() }})
	if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Fatalf("got %v; want that it was cancelled", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

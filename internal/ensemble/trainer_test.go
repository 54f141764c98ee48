package ensemble_test

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/testkit"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// refusal is what a model that is not supported must be refused with, or "".
func refusal(name, file string) string {
	switch {
	case strings.HasPrefix(name, "gblinear"):
		return "gblinear"
	case strings.HasPrefix(name, "multi-output-tree"):
		return "vector leaves"
	case strings.Contains(name, "linear-tree"):
		return "linear trees"
	}
	return ""
}

// ulps is how many float32 values lie between a and b.
func ulps(a, b float32) int64 {
	key := func(v float32) int64 {
		i := int64(int32(math.Float32bits(v)))
		if i < 0 {
			i = math.MinInt32 - i
		}
		return i
	}
	return max(key(a)-key(b), key(b)-key(a))
}

// expected reads outputs that may be stored as float32 or as float64.
func expected(t *testing.T, name string) []float64 {
	if strings.HasSuffix(name, ".f64") {
		return testkit.ReadF64(t, name)
	}
	var out []float64
	for _, v := range testkit.ReadF32(t, name) {
		out = append(out, float64(v))
	}
	return out
}

// TestTrainer holds every committed model against the answers of the library that trained it: margins bit for bit,
// predictions within 2 units in the last place of float32.
func TestTrainer(t *testing.T) {
	for _, f := range testkit.Models(t) {
		for _, file := range f.Files {
			t.Run(file, func(t *testing.T) {
				e, err := ensemble.Parse(readFile(t, file), ensemble.Limits{})
				if want := refusal(f.Name, file); want != "" {
					if err == nil || !strings.Contains(err.Error(), want) || e != nil {
						t.Fatalf("got %v, %v; want a refusal that says %q", e, err, want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if e.NumFeature != f.Features || e.Groups != f.Margins || e.Outputs() != f.Outputs {
					t.Fatalf("got %d features, %d margins, %d outputs; want %d, %d, %d",
						e.NumFeature, e.Groups, e.Outputs(), f.Features, f.Margins, f.Outputs)
				}
				checkRows(t, e, f)
			})
		}
	}
}

func checkRows(t *testing.T, e *ensemble.Ensemble, f testkit.Model) {
	rows := testkit.Rows(f.Rows, f.Features)
	margins, predictions := expected(t, f.Margin), expected(t, f.Prediction)
	if len(margins) != f.Rows*f.Margins || len(predictions) != f.Rows*f.Outputs {
		t.Fatalf("%d margins and %d predictions for %d rows", len(margins), len(predictions), f.Rows)
	}
	double := strings.HasSuffix(f.Margin, ".f64")
	m64, m32, p := make([]float64, f.Margins), make([]float32, f.Margins), make([]float32, f.Outputs)
	for r := range f.Rows {
		row := rows[r*f.Features : (r+1)*f.Features]
		if err := e.Margin64(row, m64); err != nil {
			t.Fatal(err)
		}
		if err := e.Margin(row, m32); err != nil {
			t.Fatal(err)
		}
		for g, want := range margins[r*f.Margins : (r+1)*f.Margins] {
			if double && math.Float64bits(m64[g]) != math.Float64bits(want) ||
				math.Float32bits(m32[g]) != math.Float32bits(float32(want)) {
				t.Fatalf("row %d, group %d: margin %v, the trainer says %v", r, g, m64[g], want)
			}
		}
		if err := e.Predict(row, p); err != nil {
			t.Fatal(err)
		}
		for i, want := range predictions[r*f.Outputs : (r+1)*f.Outputs] {
			if d := ulps(p[i], float32(want)); d > 2 {
				t.Fatalf("row %d, output %d: prediction %v, the trainer says %v (%d units in the last place)", r, i, p[i], want, d)
			}
		}
	}
}

// TestRead reads from a stream and holds the limit on bytes.
func TestRead(t *testing.T) {
	path := testkit.Path(t, "models/xgboost/binary-3.2.0.ubj")
	open := func() *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	if e, err := ensemble.Read(open(), ensemble.Limits{}); err != nil || e.Format != "ubjson" || e.Version != "3.2.0" {
		t.Fatalf("got %+v, %v", e, err)
	}
	if _, err := ensemble.Read(open(), ensemble.Limits{Bytes: 1000}); err == nil || !strings.Contains(err.Error(), "larger than the limit of 1000 bytes") {
		t.Fatalf("a file above the limit: %v", err)
	}
}

// TestSameModel reads the same model from JSON and from UBJSON.
func TestSameModel(t *testing.T) {
	for _, name := range []string{"binary-1.7.6", "binary-3.2.0", "multi-softprob-3.2.0"} {
		read := func(ext string) *ensemble.Ensemble {
			e, err := ensemble.Parse(readFile(t, "models/xgboost/"+name+ext), ensemble.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		a, b := read(".json"), read(".ubj")
		if len(a.Trees) != len(b.Trees) || len(a.Trees) == 0 {
			t.Fatalf("%s: %d trees in JSON, %d in UBJSON", name, len(a.Trees), len(b.Trees))
		}
		for i := range a.Trees {
			for j, n := range a.Trees[i].Nodes {
				if n != b.Trees[i].Nodes[j] {
					t.Fatalf("%s: tree %d, node %d: %+v in JSON, %+v in UBJSON", name, i, j, n, b.Trees[i].Nodes[j])
				}
			}
		}
	}
}

func TestRecognise(t *testing.T) {
	for text, want := range map[string]string{
		"{\"learner\"": "json", " \n{ \"a\"": "json", "{L\x00": "ubjson", "{i\x07": "ubjson", "tree\nversion=v4": "text", "tree\r\n": "text",
	} {
		if got, err := ensemble.Recognise([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"": "empty", "\x80\x04": "pickle", "\x7fELF": "starts like none", "treebeard": "starts like none"} {
		if _, err := ensemble.Recognise([]byte(text)); !errors.Is(err, ensemble.ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; want %q", text, err, want)
		}
	}
}

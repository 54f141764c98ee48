package forest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
)

// hosts are this host, and this host with features masked so that each family of kernels is the best one.
func hosts(t testing.TB) []*hw.Host {
	t.Helper()
	var out []*hw.Host
	for _, mask := range []string{"", "avx512vbmi", "avx512f", "sse4.2", "neon"} {
		h := hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true, Mask: mask})
		if h.CPU.MaskReason != "" {
			t.Fatal(h.CPU.MaskReason)
		}
		if !slices.ContainsFunc(out, func(o *hw.Host) bool { return familyOf(o).name == familyOf(h).name }) {
			out = append(out, h)
		}
	}
	return out
}

// answers reads outputs that may be stored as float32 or as float64.
func answers(t *testing.T, name string) []float64 {
	t.Helper()
	if strings.HasSuffix(name, ".f64") {
		return testkit.ReadF64(t, name)
	}
	var out []float64
	for _, v := range testkit.ReadF32(t, name) {
		out = append(out, float64(v))
	}
	return out
}

func parse(t testing.TB, file string) (*ensemble.Ensemble, error) {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return ensemble.Parse(data, ensemble.Limits{})
}

// TestTrainer holds the margins of every kernel against those of the library that trained the model, bit for bit, for
// every committed model, and the predictions of the backend against the slow ones of package ensemble.
func TestTrainer(t *testing.T) {
	read := 0
	for _, f := range testkit.Models(t) {
		for _, file := range f.Files {
			e, err := parse(t, file)
			if err != nil {
				continue // refusals are package ensemble's matter
			}
			read++
			t.Run(file, func(t *testing.T) {
				for _, host := range hosts(t) {
					p := newPlan(e)
					g, err := newProgram(p, host, false)
					if err != nil {
						t.Fatal(err)
					}
					got := margins(t, g, p, testkit.Rows(f.Rows, f.Features), f.Rows)
					for i, want := range answers(t, f.Margin) {
						same := math.Float64bits(got[i]) == math.Float64bits(want)
						if !strings.HasSuffix(f.Margin, ".f64") {
							same = math.Float32bits(float32(got[i])) == math.Float32bits(float32(want))
						}
						if !same {
							t.Fatalf("%s: margin %d is %v, the trainer says %v", familyOf(host).name, i, got[i], want)
						}
					}
					g.Close()
				}
				if e.Library != ensemble.ONNX {
					checkPredictions(t, e, testkit.Alone(t, file), f)
				}
			})
		}
	}
	if read < 40 {
		t.Errorf("only %d files could be read", read)
	}
}

func checkPredictions(t *testing.T, e *ensemble.Ensemble, dir string, f testkit.Model) {
	t.Helper()
	r := backendtest.NewRunner(t, backendtest.Open(t, New(), dir))
	defer r.Close()
	rows := testkit.Rows(f.Rows, f.Features)
	got, want := r.Run(rows), make([]float32, e.Outputs())
	for i := range f.Rows {
		if err := e.Predict(rows[i*f.Features:(i+1)*f.Features], want); err != nil {
			t.Fatal(err)
		}
		for o, w := range want {
			if v := got[i*len(want)+o]; math.Float32bits(v) != math.Float32bits(w) {
				t.Fatalf("row %d, output %d: %v, package ensemble says %v", i, o, v, w)
			}
		}
	}
}

// margins gives the margins of the first n rows. What an earlier user left in scratch memory must not matter, and nothing
// beside rows, margins and scratch memory may be looked at or changed.
func margins(t testing.TB, g *program, p *plan, rows []float32, n int) []float64 {
	t.Helper()
	size := 4
	if p.wide {
		size = 8
	}
	scratch, err := g.newScratch(false)
	if err != nil {
		t.Fatal(err)
	}
	scratchBytes := scratch.Len()
	scratch.Release()
	scratchAt, in, out := newEdge(t, lines64(scratchBytes)), newEdge(t, 4*n*p.features), newEdge(t, size*n*p.groups)
	copy(unsafe.Slice((*float32)(in.at), n*p.features), rows)
	g.run(in.at, out.at, scratchAt.at, n)
	sums := make([]float64, n*p.groups)
	for i := range sums {
		if p.wide {
			sums[i] = unsafe.Slice((*float64)(out.at), len(sums))[i]
		} else {
			sums[i] = float64(unsafe.Slice((*float32)(out.at), len(sums))[i])
		}
	}
	for _, e := range []edge{scratchAt, in, out} {
		e.release(t)
	}
	return sums
}

// lines64 is n rounded up to whole cache lines, at which scratch memory starts.
func lines64(n int) int { return (n + 63) / 64 * 64 }

// TestKinds tells the errors apart.
func TestKinds(t *testing.T) {
	text := func(name, content string) func(dir string) {
		return func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		alter func(dir string)
		match int
		kind  error
	}{
		"nothing":               {func(string) {}, 0, engine.ErrArtifact},
		"not a model":           {text("notes.txt", "hello"), 0, engine.ErrArtifact},
		"other JSON":            {text("graph.json", `{"nodes": []}`), 0, engine.ErrArtifact},
		"an empty learner":      {text("model.json", `{"learner":{}}`), matchModel, engine.ErrArtifact},
		"LightGBM's first line": {text("model.txt", "tree\n"), matchModel, engine.ErrArtifact},
		"two models": {func(dir string) {
			text("a.txt", "tree\n")(dir)
			text("b.txt", "tree\n")(dir)
		}, matchBroken, engine.ErrArtifact},
		"a library alone": {text("compiled.so", "\x7fELF"), 0, engine.ErrArtifact},
		"a model of another name beside a library": {func(dir string) {
			text("compiled.so", "\x7fELF")(dir)
			text("model.txt", "tree\n")(dir)
		}, 0, engine.ErrArtifact},
		"an unreadable model beside a library": {func(dir string) {
			text("compiled.so", "\x7fELF")(dir)
			text("source_model.txt", "tree\n")(dir)
		}, matchUnknown, engine.ErrUnsupported},
		"another model than the library's": {func(dir string) {
			text("compiled.so", "\x7fELF")(dir)
			text("source_model.txt", "tree\n")(dir)
			text("compiled.meta", `{"Picket": {"SourceSHA256": "`+strings.Repeat("00", 32)+`"}}`)(dir)
		}, matchOther, engine.ErrArtifact},
		"the library's model, which cannot be read": {func(dir string) {
			text("compiled.so", "\x7fELF")(dir)
			text("source_model.txt", "tree\n")(dir)
			text("compiled.meta", fmt.Sprintf(`{"Picket": {"SourceSHA256": "%x"}}`, sha256.Sum256([]byte("tree\n"))))(dir)
		}, matchSource, engine.ErrUnsupported},
		"a digest that is none": {func(dir string) {
			text("compiled.so", "\x7fELF")(dir)
			text("source_model.txt", "tree\n")(dir)
			text("compiled.meta", `{"Picket": {"SourceSHA256": "00"}}`)(dir)
		}, matchOther, engine.ErrArtifact},
		"zeros for missing": {func(dir string) {
			text("source_model.txt", "tree\n")(dir)
			text("compiled.meta", `{"Model": {"SparseInput": "1"}}`)(dir)
		}, matchModel, engine.ErrUnsupported},
		"a model for another runtime": {func(dir string) {
			text("model.txt", "tree\n")(dir)
			text("net.params", "")(dir)
		}, 0, engine.ErrArtifact},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.alter(dir)
			a := backendtest.Artifact(t, dir)
			if got := New().Match(a); got != c.match {
				t.Errorf("Match gives %d, want %d", got, c.match)
			}
			m, err := New().Open(t.Context(), a, backendtest.Options())
			if m != nil || !errors.Is(err, c.kind) {
				t.Errorf("Open gives %v, %v; want %v", m, err, c.kind)
			}
		})
	}
}

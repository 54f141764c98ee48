package forest

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging/compile"
	"github.com/picket-ml/picket/tensor"
)

// Models of one value and of several, whose margins can lie where the predictions will be and cannot.
var promised = []string{"binary-3.2.0", "multi-softprob-3.2.0", "multi-softmax-1.7.6", "base-score-reg-1.7.6"}

// TestArtifact opens what `picket compile` makes, and answers as the trainer does.
func TestArtifact(t *testing.T) {
	f := testkit.ModelNamed(t, "binary-3.2.0")
	dir := filepath.Join(t.TempDir(), "artifact")
	if _, err := compile.Run(t.Context(), compile.Options{Source: testkit.Path(t, f.Files[0]), Out: dir}); err != nil {
		t.Fatal(err)
	}
	if n := New().Match(backendtest.Artifact(t, dir)); n != matchSource {
		t.Errorf("Match gives %d, want %d", n, matchSource)
	}
	m := backendtest.Open(t, New(), dir)
	want := engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, int64(f.Features)}}},
		Outputs: []engine.TensorSpec{{Name: "output", DType: tensor.FP32, Dims: []int64{-1, int64(f.Outputs)}}},
	}
	if got := m.Signature(); !got.Equal(want) {
		t.Errorf("the signature is %v, want %v", got, want)
	}
	if p := m.Properties(); !p.Inline || p.Variant == "" || p.Version != "3.2.0" {
		t.Errorf("the properties are %+v", p)
	}
	r := backendtest.NewRunner(t, m)
	defer r.Close()
	got := r.Run(testkit.Rows(f.Rows, f.Features))
	for i, want := range answers(t, f.Prediction) {
		if math.Abs(float64(got[i])-want) > 2e-7 {
			t.Fatalf("answer %d is %v, the trainer says %v", i, got[i], want)
		}
	}

	// The file has to be the one that the library was made of.
	name := filepath.Join(dir, "source_model"+filepath.Ext(f.Files[0]))
	if filepath.Ext(name) == ".json" {
		name = filepath.Join(dir, "source_model.xgbjson")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(data, ' '), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New().Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options()); !errors.Is(err, engine.ErrArtifact) {
		t.Errorf("with another source model, Open gives %v", err)
	}
	if n := New().Match(backendtest.Artifact(t, dir)); n != matchOther {
		t.Errorf("with another source model, Match gives %d, want %d", n, matchOther)
	}
}

// TestBatches holds batches larger than the suite's, which the kernels cut into parts, against single rows, and the hot path
// to its promise to allocate nothing.
func TestBatches(t *testing.T) {
	for _, name := range promised {
		f := testkit.ModelNamed(t, name)
		dir := testkit.Alone(t, f.Files[0])
		rows := testkit.Rows(700, f.Features)
		t.Run(name, func(t *testing.T) {
			m := backendtest.Open(t, New(), dir)
			r := backendtest.NewRunner(t, m)
			defer r.Close()
			var single []float32
			for i := range 700 {
				single = append(single, r.Run(rows[i*r.InRow:(i+1)*r.InRow])...)
			}
			for _, n := range []int{2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257, 511, 512, 513, 577, 700} {
				if !slices.Equal(r.Run(rows[:n*r.InRow]), single[:n*r.OutRow]) {
					t.Errorf("a batch of %d rows is answered differently", n)
				}
			}
			checkAllocations(t, m)
		})
	}
}

func checkAllocations(t *testing.T, m engine.Model) {
	s := m.Signature()
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, n := range []int{1, 600} {
		in, err := tensor.New("data", tensor.FP32, tensor.MustShape(int64(n), s.Inputs[0].Dims[1]))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Buffer.Release()
		out, err := tensor.New("output", tensor.FP32, tensor.MustShape(int64(n), s.Outputs[0].Dims[1]))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Buffer.Release()
		clear(in.Bytes())
		ins, outs := []tensor.Tensor{in}, []tensor.Tensor{out}
		if got := testing.AllocsPerRun(100, func() {
			if err := i.Run(ins, outs, n); err != nil {
				t.Fatal(err)
			}
		}); got != 0 && !sanitized {
			t.Errorf("Run of %d rows allocates %v times", n, got)
		}
		if err := i.Run(ins, outs, n+1); !errors.Is(err, engine.ErrInvalidInput) {
			t.Errorf("Run of more rows than there are gives %v", err)
		}
	}
}

// TestOpenGivesBack opens and closes, also in vain.
func TestOpenGivesBack(t *testing.T) {
	f := testkit.ModelNamed(t, "binary-3.2.0")
	dir := testkit.Alone(t, f.Files[0])
	before := tensor.MemoryUsage().Live
	for range 20 {
		m, err := New().Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
		if err != nil {
			t.Fatal(err)
		}
		i, err := m.NewInstance()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(i.Close(), m.Close()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New().Open(ctx, backendtest.Artifact(t, dir), backendtest.Options()); !errors.Is(err, context.Canceled) {
		t.Errorf("Open on a cancelled context gives %v", err)
	}
	if now := tensor.MemoryUsage().Live; now != before {
		t.Errorf("%d buffers before, %d after", before, now)
	}
}

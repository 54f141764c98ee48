//go:build cgo && linux

package onnx_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// folders opens folders by their path.
type folders struct{}

func (folders) Open(_ context.Context, dir string) (*engine.Artifact, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return engine.NewArtifact(dir, root)
}

// newEngine is an engine with all backends over real libraries.
func newEngine(t *testing.T) *engine.Engine {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	o := backends.Options{ONNX: onnx.Options{LibraryPath: testkit.ONNXRuntime(t), Log: quiet}}
	if runtime.GOARCH == "amd64" {
		o.DLR = dlr.Options{LibraryPath: testkit.LibDLR(t), Log: quiet}
	}
	list := backends.All(o)
	t.Cleanup(func() {
		if err := backends.Close(list); err != nil {
			t.Error(err)
		}
	})
	return engineOf(t, backendtest.Options().Host, list...)
}

// engineOf is an engine with these backends, which stay the caller's. The test's end closes it.
func engineOf(t *testing.T, host *hw.Host, list ...engine.Backend) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Options{Host: host, Backends: list, Source: folders{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// candidate is what became of a backend.
func candidate(d engine.Description, backend string) engine.Candidate {
	for _, c := range d.Candidates {
		if c.Backend == backend {
			return c
		}
	}
	return engine.Candidate{}
}

// TestEngineRunsNetworks: a file of a network is run by this backend, whose answers are ONNX Runtime's, to many rows as to one.
func TestEngineRunsNetworks(t *testing.T) {
	e := newEngine(t)
	// ONNX Runtime has kernels for each level of processors, which add up in orders of their own; the answers were made with those for AVX2.
	const tolerance = 1e-6
	for _, name := range []string{"mlp", "mlp-batch4", "cnn"} {
		d, err := e.Load(t.Context(), name, net(t, name), engine.ModelOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Backend != "onnx" || candidate(d, "onnx").Reason == "" || !strings.Contains(candidate(d, "forest").Reason, "no TreeEnsemble") {
			t.Errorf("%s: %+v", name, d.Candidates)
		}
		s, err := e.Acquire(name)
		if err != nil {
			t.Fatal(err)
		}
		input, want := numbers(t, name, "input"), numbers(t, name, "runtime")
		row, err := s.Signature().Inputs[0].RowBytes()
		if err != nil {
			t.Fatal(err)
		}
		for rows := len(input) * 4 / row; rows > 0; rows /= 2 {
			r, err := s.NewRequest(rows)
			if err != nil {
				t.Fatal(err)
			}
			copy(r.Inputs[0].Bytes(), raw(input))
			if err := r.Predict(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := tensor.View[float32](r.Outputs[0])
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if math.Abs(float64(v)-float64(want[i])) > tolerance {
					t.Errorf("%s: answer %d of %d rows is %v, want %v", name, i, rows, v, want[i])
				}
			}
			r.Release()
		}
		s.Release()
		if err := e.Unload(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

// TestEngineLeavesTreesToForest: trees have the names that they have there, with a library installed or without.
func TestEngineLeavesTreesToForest(t *testing.T) {
	data, err := os.ReadFile(testkit.Path(t, "models/onnx/hist-regression-1.20.1.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t, map[string][]byte{"m.onnx": data})
	e := newEngine(t)
	d, err := e.Load(t.Context(), "trees", dir, engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Backend != "forest" || !strings.Contains(candidate(d, "onnx").Reason, "it takes or gives other tensors than forest") {
		t.Errorf("%+v", d.Candidates)
	}
	if d, err = e.Load(t.Context(), "asked", dir, engine.ModelOptions{Backend: "onnx"}); err != nil || d.Backend != "onnx" {
		t.Errorf("asked for: %+v, %v", d, err)
	}
}

// TestEngineTimesSourceAgainstNeo: an artifact of Neo with the model that it was compiled from, which compiled.meta names by
// its digest, is run by whichever is the faster, under the compiled one's names.
func TestEngineTimesSourceAgainstNeo(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Log("libdlr is for x86-64 alone")
		return
	}
	source, err := os.ReadFile(filepath.Join("testdata", "nets", "mlp-of-tvm", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join("testdata", "nets", "mlp", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t)
	for name, c := range map[string]struct {
		beside, digest []byte
		want           string
	}{
		"the source":           {source, source, ""},
		"no digest":            {source, nil, "last resort"},
		"the digest of others": {source, other, "last resort"},
		"another model":        {other, other, "its answers differ from those of"},
	} {
		dir := testkit.CopyDir(t, testkit.Path(t, "tvm/mlp_b1-v3"))
		if err := os.WriteFile(filepath.Join(dir, "source_model.onnx"), c.beside, 0o600); err != nil {
			t.Fatal(err)
		}
		if c.digest != nil {
			path := filepath.Join(dir, "compiled.meta")
			meta, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			meta = []byte(strings.Replace(string(meta), "{", fmt.Sprintf(`{"Picket": {"SourceSHA256": "%x"}, `, sha256.Sum256(c.digest)), 1))
			if err := os.WriteFile(path, meta, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := e.Load(t.Context(), "m", dir, engine.ModelOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		own := candidate(d, "onnx")
		if c.want != "" && (own.Chosen || !strings.Contains(own.Reason, c.want)) || c.want == "" && own.USPerRow <= 0 {
			t.Errorf("%s: %+v", name, d.Candidates)
		}
		if fmt.Sprint(d.Signature.Inputs, d.Signature.Outputs) != "[input FP32 [1, 30]] [output FP32 [1, 1]]" {
			t.Errorf("%s: the signature is %v", name, d.Signature)
		}
		if err := e.Unload(t.Context(), "m"); err != nil {
			t.Error(err)
		}
	}
}

// TestEngineSaysWhatIsMissing: without the library, the error for a network is not that it is no tree model alone.
func TestEngineSaysWhatIsMissing(t *testing.T) {
	list := backends.All(backends.Options{ONNX: onnx.Options{LibraryPath: filepath.Join(t.TempDir(), "absent.so")}})
	_, err := engineOf(t, backendtest.Options().Host, list...).Load(t.Context(), "m", net(t, "mlp"), engine.ModelOptions{})
	if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "backend onnx, which might run it, does not work here: the ONNX Runtime that is configured cannot be used") {
		t.Errorf("got %v", err)
	}
}

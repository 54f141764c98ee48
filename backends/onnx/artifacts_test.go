//go:build cgo && linux

package onnx_test

import (
	"encoding/binary"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// newBackend is a backend over the real ONNX Runtime.
func newBackend(t testing.TB) *onnx.Backend {
	t.Helper()
	b := onnx.New(onnx.Options{LibraryPath: testkit.ONNXRuntime(t), Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("closing the backend: %v", err)
		}
	})
	return b
}

// net is the folder of a network that scripts/fixtures/onnx_nets.py made, with the model alone in it.
func net(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "nets", name, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return folder(t, map[string][]byte{"model.onnx": data})
}

// folder is an artifact of these files.
func folder(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func numbers(t testing.TB, net, name string) []float32 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "nets", net, name+".f32"))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

func signature(in, out string, inDims, outDims []int64) engine.Signature {
	return engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: in, DType: tensor.FP32, Dims: inDims}},
		Outputs: []engine.TensorSpec{{Name: out, DType: tensor.FP32, Dims: outDims}},
	}
}

// TestArtifacts runs the suite on networks whose rows vary, are fixed at one, and are fixed at four.
func TestArtifacts(t *testing.T) {
	for name, s := range map[string]engine.Signature{
		"mlp":        signature("input", "output", []int64{-1, 30}, []int64{-1, 1}),
		"mlp-batch4": signature("input", "output", []int64{-1, 30}, []int64{-1, 1}),
		"cnn":        signature("image", "scores", []int64{-1, 3, 16, 16}, []int64{-1, 10}),
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Case{
				Backend: newBackend(t), Dir: net(t, name), Model: "model.onnx", Signature: s,
				Input: numbers(t, name, "input"), Expected: numbers(t, name, "expected"), Tolerance: 1e-5, BatchTolerance: 1e-6, Cycles: 100,
			})
		})
	}
}

//go:build cgo && linux && !race

package onnx_test

import (
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/tensor"
)

// TestRunDoesNotAllocate: not where the tensors are those of before, nor where they are others, nor where a batch is filled up.
func TestRunDoesNotAllocate(t *testing.T) {
	for _, name := range []string{"mlp", "mlp-batch4"} {
		i, err := backendtest.Open(t, newBackend(t), net(t, name)).NewInstance()
		if err != nil {
			t.Fatal(err)
		}
		var in, out [8][]tensor.Tensor
		for n := range in {
			rows := int64(1 + n)
			x, err := tensor.New("input", tensor.FP32, tensor.MustShape(rows, 30))
			if err != nil {
				t.Fatal(err)
			}
			y, err := tensor.New("output", tensor.FP32, tensor.MustShape(rows, 1))
			if err != nil {
				t.Fatal(err)
			}
			clear(x.Bytes())
			in[n], out[n] = []tensor.Tensor{x}, []tensor.Tensor{y}
		}
		next := 0
		if n := testing.AllocsPerRun(1000, func() {
			next = (next + 1) % len(in)
			if err := i.Run(in[next], out[next], next+1); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a run", name, n)
		}
		for n := range in {
			in[n][0].Buffer.Release()
			out[n][0].Buffer.Release()
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
}

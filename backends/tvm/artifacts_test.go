//go:build cgo && linux && amd64

package tvm_test

import (
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func signature(in, out []int64) engine.Signature {
	return engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "input", DType: tensor.FP32, Dims: in}},
		Outputs: []engine.TensorSpec{{Name: "output", DType: tensor.FP32, Dims: out}},
	}
}

// TestArtifacts runs the suite on what TVM has made.
func TestArtifacts(t *testing.T) {
	const mlp = "tvm/mlp_b1-v3"
	t.Run("mlp", func(t *testing.T) {
		backendtest.Run(t, backendtest.Case{
			Backend: tvm.New(), Dir: testkit.Path(t, mlp), Library: "compiled.so", Symbol: "tvmgen_default_fused_nn_contrib_dense_pack_add_sigmoid",
			Signature: signature([]int64{1, 30}, []int64{1, 1}),
			Input:     testkit.ReadF32(t, mlp+"/input.f32"), Expected: testkit.ReadF32(t, mlp+"/expected.f32"), Tolerance: 1e-6,
		})
	})
}

//go:build cgo && linux

package tvm_test

import (
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/internal/testkit"
)

// TestArtifacts runs the suite on what TVM has made for this processor.
func TestArtifacts(t *testing.T) {
	const dir = "tvm/mlp_b1-a64"
	backendtest.Run(t, backendtest.Case{
		Backend: tvm.New(), Dir: testkit.Path(t, dir), Library: "compiled.so", Symbol: "tvmgen_default_fused_nn_contrib_dense_pack_add", Signature: signature([]int64{1, 12}, []int64{1, 3}),
		Input: testkit.ReadF32(t, dir+"/input.f32"), Expected: testkit.ReadF32(t, dir+"/expected.f32"), Tolerance: 2e-6, Cycles: 10,
	})
}

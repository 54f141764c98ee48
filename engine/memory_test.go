package engine_test

import (
	"errors"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// A model whose tensors cannot fit the machine is refused before they are
// written to, because the kernel lends what it does not have and kills later.
func TestTensorsLargerThanTheMachine(t *testing.T) {
	const row = 1 << 18 // bytes
	signature := &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "x", DType: tensor.FP32, Dims: []int64{engine.Variable, row / 4}}},
		Outputs: []engine.TensorSpec{{Name: "y", DType: tensor.FP32, Dims: []int64{engine.Variable, 1}}},
	}
	for name, memory := range map[string]hw.Memory{
		"machine":       {Total: 1 << 20, Cgroup: hw.Limit{Unlimited: true}},
		"control group": {Total: 1 << 40, Cgroup: hw.Limit{Bytes: 1 << 20}},
		"unknown total": {Cgroup: hw.Limit{Bytes: 1 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			host := &hw.Host{CPU: hw.CPU{CoresAllowed: 2}, Memory: memory}
			e := newEngine(t, engine.Options{Host: host}, enginetest.New(enginetest.Script{Signature: signature}))
			for _, o := range []engine.ModelOptions{{MaxBatchRows: 64, Instances: 1}, {MaxBatchRows: 1, Instances: 64}} {
				if _, err := e.Load(t.Context(), "m", "somewhere", o); !errors.Is(err, engine.ErrMemory) {
					t.Errorf("%d rows in %d instances: %v", o.MaxBatchRows, o.Instances, err)
				}
			}
			load(t, e, "m", engine.ModelOptions{MaxBatchRows: 1, Instances: 1})
		})
	}
}

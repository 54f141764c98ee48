//go:build cgo && linux

package main

import (
	"testing"

	"github.com/picket-ml/picket/backends/onnx/onnxtest"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "things of the CUDA driver", Open: cuda.Live},
		testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}

// TestOnFakeGPU starts what the program measures on a GPU on one that is none, so that the one short time in which there is a GPU is not spent on the
// program's own mistakes.
func TestOnFakeGPU(t *testing.T) {
	host := hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true})
	host.GPUs = []hw.GPU{{Name: "Fake GPU"}}
	s := setting{library: onnxtest.Library(t), peer: native.ONNXRuntimeCUDA, provider: "cuda:0", host: host, gpus: devices.New(devices.Options{Library: cudatest.Library(t)})}
	dir := t.TempDir()
	n := tabular()
	if err := n.write(dir); err != nil {
		t.Fatal(err)
	}
	sessions := onnxtest.Log(t)
	m, err := start(t.Context(), s, dir, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range m.subjects[1:] {
		subject.Run(7, 16)
	}
	if m.failed != nil || len(sessions()) != 1 {
		t.Errorf("%v, sessions on the GPU: %q", m.failed, sessions())
	}
	if err := m.stop(); err != nil {
		t.Error(err)
	}
}

package onnx_test

import (
	"testing"

	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }},
		testkit.Handles{Name: "libraries", Open: func() int64 { return int64(dl.OpenCount() - onnx.Kept() - cuda.Drivers()) }},
		testkit.Handles{Name: "things of the CUDA driver", Open: cuda.Live},
		testkit.Handles{Name: "sessions of ONNX Runtime", Open: func() int64 { return int64(onnx.OpenSessions()) }})
}

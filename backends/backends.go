// Package backends lists the backends of this program.
package backends

import (
	"github.com/picket-ml/picket/backends/cuda"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/engine"
)

// Options are what the backends are made with.
type Options struct {
	DLR  dlr.Options
	ONNX onnx.Options
	// CUDA is the backend of GPUs, made by whoever drains their devices; nil for one
	// with the defaults.
	CUDA *cuda.Backend
}

// All gives every backend, in the order in which a tie between them is decided:
// those that run artifacts and model files directly before those that go
// through a library.
func All(options Options) []engine.Backend {
	gpu := options.CUDA
	if gpu == nil {
		gpu = cuda.New(cuda.Options{})
	}
	return []engine.Backend{
		treelite.New(),
		forest.New(),
		gpu,
		tvm.New(),
		onnx.New(options.ONNX),
		dlr.New(options.DLR),
	}
}

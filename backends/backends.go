// Package backends lists the backends of this program.
package backends

import (
	"errors"
	"fmt"
	"io"

	"github.com/picket-ml/picket/backends/cuda"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/devices"
)

// Options are what the backends are made with.
type Options struct {
	DLR  dlr.Options
	ONNX onnx.Options
	// GPUs are the devices that backends share, made by whoever drains them; nil for all
	// that there are.
	GPUs *devices.Set
}

// All gives every backend, for the caller to Close, in the order in which a tie between them is decided:
// those that run artifacts and model files directly before those that go
// through a library.
func All(options Options) []engine.Backend {
	gpus := options.GPUs
	if gpus == nil {
		gpus = devices.New(devices.Options{})
	}
	options.ONNX.GPUs = gpus
	return []engine.Backend{
		treelite.New(),
		forest.New(),
		cuda.New(cuda.Options{Devices: gpus}),
		tvm.New(),
		onnx.New(options.ONNX),
		dlr.New(options.DLR),
	}
}

// Close closes what the backends of a list have opened, such as libraries of the host, once every engine and every model
// of theirs is closed. A list may be closed again, and is good for another engine after it.
func Close(list []engine.Backend) error {
	var failed []error
	for _, b := range list {
		if c, has := b.(io.Closer); has {
			if err := c.Close(); err != nil {
				failed = append(failed, fmt.Errorf("closing backend %s: %w", b.Name(), err))
			}
		}
	}
	return errors.Join(failed...)
}

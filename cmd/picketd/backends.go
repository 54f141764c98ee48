package main

import (
	"log/slog"
	"slices"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/cuda/devices"
)

// chooseBackends is all backends, in order of preference, less those that the
// configuration disables.
func chooseBackends(c *config.Config, gpus *devices.Set, log *slog.Logger) []engine.Backend {
	all := backends.All(backends.Options{GPUs: gpus, DLR: dlr.Options{
		LibraryPath: c.Backends.LibDLR, Threads: c.ModelDefaults.Threads, Log: log,
		AlignedAllocator: c.Backends.LibDLRAligned, PinnedBytes: int(c.Backends.LibDLRPinned),
	}, ONNX: onnx.Options{LibraryPath: c.Backends.ONNXRuntime, Log: log}})
	for _, name := range c.Backends.Disable {
		if !slices.ContainsFunc(all, func(b engine.Backend) bool { return b.Name() == name }) {
			log.Warn("backends.disable names a backend that does not exist", "backend", name)
		}
	}
	return slices.DeleteFunc(all, func(b engine.Backend) bool { return slices.Contains(c.Backends.Disable, b.Name()) })
}

package onnx

import (
	"log/slog"

	"github.com/picket-ml/picket/internal/cuda/devices"
)

// LibraryVariable is the environment variable that names the library where Options do not.
const LibraryVariable = "PICKET_ONNXRUNTIME"

// Options are what a Backend is made with.
type Options struct {
	// LibraryPath is the libonnxruntime.so to use; empty to search, as the package comment says.
	LibraryPath string

	// GPUs are shared with the other backends of the process. Nil for all that there are.
	GPUs *devices.Set

	// Log is told which library was opened. Nil for slog.Default.
	Log *slog.Logger
}

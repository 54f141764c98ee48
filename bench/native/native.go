//go:build cgo && linux

// Package native calls compiled tree models as a C program would, and times
// that in C: the yardstick for what the engine adds. The one call from Go into
// C is outside the time, and so is one of the two clock readings.
package native

// #cgo CFLAGS: -O3
// #include "loop.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/tensor"
)

// Artifact is a compiled tree model with a scalar float32 answer.
type Artifact struct {
	library *dl.Library
	predict unsafe.Pointer
}

// Open opens compiled.so in dir. It must export `float predict(Entry*, int)`,
// which cannot be checked.
func Open(dir string) (*Artifact, error) {
	f, err := os.Open(filepath.Join(dir, "compiled.so"))
	if err != nil {
		return nil, fmt.Errorf("opening the artifact: %w", err)
	}
	defer f.Close()
	library, err := dl.OpenFile(f, "compiled.so")
	if err != nil {
		return nil, err
	}
	predict, err := library.Symbol("predict")
	if err != nil {
		return nil, errors.Join(err, library.Close())
	}
	return &Artifact{library, predict}, nil
}

// Run predicts the rows of in, shape [rows, features], into out, shape
// [rows, 1], and returns how long the loop took.
func (a *Artifact) Run(in, out tensor.Tensor) time.Duration {
	return time.Duration(C.bench_loop(a.predict, (*C.float)(tensor.Pointer(in)),
		C.int64_t(in.Shape.Dim(0)), C.int64_t(in.Shape.Dim(1)), (*C.float)(tensor.Pointer(out))))
}

// Close closes the library.
func (a *Artifact) Close() error { return a.library.Close() }

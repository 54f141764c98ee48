//go:build !cgo || !linux

package tvm

import (
	"context"
	"os"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
)

// open fails with the reason why this program cannot load libraries.
func open(context.Context, *engine.Artifact, *os.File, *source) (engine.Model, error) {
	return nil, neo.LibraryError(dl.Probe())
}

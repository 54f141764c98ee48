//go:build !cgo || !linux

package treelite

import (
	"os"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
)

// open fails with the reason why this program cannot load libraries.
func open(*os.File, neo.Layout, neo.Metadata, engine.OpenOptions) (engine.Model, error) {
	return nil, neo.LibraryError(dl.Probe())
}

//go:build !cgo || !linux

package dlr

import (
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/internal/dl"
)

// useAllocator fails with the reason why no library can be loaded.
func useAllocator(*cdlr.Library) error { return dl.Probe() }

// pinArena fails as useAllocator does.
func pinArena(int) error { return dl.Probe() }

//go:build !cgo || !linux

package dlr

import (
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/internal/dl"
)

// useArena fails with the reason why no library can be loaded.
func useArena(*cdlr.Library, int) error { return dl.Probe() }

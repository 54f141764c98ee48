//go:build !cgo || !linux

package targets

import "github.com/picket-ml/picket/bench/target"

// libraries are none: they are called from C.
func libraries() []target.Starter { return nil }

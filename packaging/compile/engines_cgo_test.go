//go:build cgo && linux

package compile

import "github.com/picket-ml/picket/backends/forest"

// engines are all that `picket compile` has; each is held to everything.
func engines() []Engine {
	return []Engine{Branches(), {Name: forest.EngineName, Flags: forest.CompilerFlags(), Sources: forest.Sources}}
}

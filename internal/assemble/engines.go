package assemble

import (
	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/packaging/compile"
)

// Engines are the ways to turn trees into code, the default first.
func Engines() []compile.Engine {
	return []compile.Engine{
		compile.Branches(),
		{Name: forest.EngineName, Flags: forest.CompilerFlags(), Sources: forest.Sources},
	}
}

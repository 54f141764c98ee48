package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/picket-ml/picket/internal/ensemble"
)

// Engine is a way to turn trees into code. It makes the margins of a row; the exported functions, the transform of margins
// and the folder are the same for all engines and made by this package.
type Engine struct {
	// Name is what compiled.meta says.
	Name string
	// Flags are given to the C compiler for the files of Sources, behind those of the target and those that forbid it to
	// change sums.
	Flags []string
	// Sources gives the C of e for an architecture as Go names it: files by name, of which those that end in .c are compiled
	// and linked in the order of their names, and lie in one folder with the others. One of them defines
	//
	//	void picket_margins(const void *row, T *margins);
	//
	// which is reentrant, reads e.NumFeature values of float from row, each NaN of which is missing, and writes e.Groups sums
	// before any averaging or transform. T is float, or double if e.Wide(). The same model gives the same files. No other name
	// that they define may be visible outside of the library.
	Sources func(e *ensemble.Ensemble, arch string) (map[string][]byte, error)
}

// marginsPrototype declares the function that an engine defines for e.
func marginsPrototype(e *ensemble.Ensemble) string {
	return fmt.Sprintf("__attribute__((visibility(\"hidden\"))) void picket_margins(const void *row, %s *m)", sumType(e))
}

// interfaceName is the file of the exported functions.
const interfaceName = "interface.c"

// file is what is compiled, or what that includes.
type file struct {
	name    string
	content []byte
	flags   []string
}

// object is the name of what the compiler makes of the file, empty for files that are only included.
func (f file) object() string {
	if stem, ok := strings.CutSuffix(f.name, ".c"); ok {
		return stem + ".o"
	}
	return ""
}

// files are all files of e's library, the exported functions first.
func (g Engine) files(e *ensemble.Ensemble, arch string) ([]file, error) {
	sources, err := g.Sources(e, arch)
	if err != nil {
		return nil, err
	}
	if _, taken := sources[interfaceName]; taken {
		return nil, fmt.Errorf("engine %s makes a file %s, which is the name of another", g.Name, interfaceName)
	}
	// -O3 for vectors in the transforms of many margins.
	files := []file{{name: interfaceName, content: interfaceSource(e), flags: []string{"-O3"}}}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		files = append(files, file{name: name, content: sources[name], flags: g.Flags})
	}
	return files, nil
}

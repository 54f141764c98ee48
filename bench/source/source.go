// Package source finds the source of Picket, where benchmarks have the programs that they compare it with.
package source

import (
	"bytes"
	"os"
	"path/filepath"
)

// module is what the first line of our go.mod says.
const module = "module github.com/picket-ml/picket\n"

// Root is the folder of the source that the working directory is in. It is empty where that is in none, as on a host where the
// program alone was installed.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte(module)) {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			return ""
		}
		dir = above
	}
}

package config

import (
	"fmt"
	"strings"
)

// origin says where in a file the values of a Config stand. The zero value is
// that of a Config without a file.
type origin struct {
	file string
	// lines has the line of each key path that the file gives, and 0 for a value
	// that an environment variable or a flag has replaced since.
	lines map[string]int
}

// of returns "FILE: line N: " for the value at path, or for the section that
// should have had it, and "" for a value that came from elsewhere.
func (o origin) of(path string) string {
	for path != "" {
		if line, ok := o.lines[path]; ok {
			if line == 0 {
				return ""
			}
			return fmt.Sprintf("%s: line %d: ", o.file, line)
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

// gives tells whether the file has a value at path.
func (o origin) gives(path string) bool { return o.lines[path] > 0 }

// replaced records that the value at path, with everything in it, no longer comes
// from the file.
func (o origin) replaced(path string) {
	if o.lines == nil {
		return
	}
	for inner := range o.lines {
		if strings.HasPrefix(inner, path+"[") || strings.HasPrefix(inner, path+".") {
			delete(o.lines, inner)
		}
	}
	o.lines[path] = 0
}

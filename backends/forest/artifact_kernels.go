//go:build cgo && linux

package forest

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// kernelFiles is the C of this package, for artifacts to carry.
//
//go:embed *.c *.h
var kernelFiles embed.FS

// commonFiles are what the kernels include, and the C that is the same for all architectures. The slice kernel is left
// empty, because an artifact is given one row at a time.
func commonFiles() (map[string][]byte, error) {
	entries, err := kernelFiles.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("reading the kernels: %w", err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, "_amd64.c") || strings.HasSuffix(name, "_arm64.c") {
			continue
		}
		if files[name], err = kernelFiles.ReadFile(name); err != nil {
			return nil, fmt.Errorf("reading the kernels: %w", err)
		}
	}
	files["slice.inc.h"] = nil
	return files, nil
}

// instructions are the names, as compilers know them, of the instruction sets beyond the architecture's baseline that a
// file of kernels is compiled with.
var instructions = regexp.MustCompile(`(?m)^#pragma GCC target\("([a-z0-9,]+)"\)$`)

// kernelsOf gives the C file of a family for an architecture as Go names it, and what the processor must have before
// anything in the file may run; no file where the family is another architecture's.
func (f family) kernelsOf(arch string) (name string, source []byte, needs []string, err error) {
	name = f.code + "_" + arch + ".c"
	source, err = kernelFiles.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil, nil
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("reading the kernels: %w", err)
	}
	for _, m := range instructions.FindAllSubmatch(source, -1) {
		needs = append(needs, strings.Split(string(m[1]), ",")...)
	}
	slices.Sort(needs)
	if len(needs) == 0 && arch == "amd64" {
		return "", nil, nil, fmt.Errorf("%s does not say which instruction sets it is compiled with", name)
	}
	return name, source, slices.Compact(needs), nil
}

package packaging

import (
	"fmt"
	"strings"
)

const (
	maxPathLength = 200
	maxPathParts  = 3
)

// checkPath refuses every path that could mean something else than a file below the folder it is unpacked to, on any
// file system.
func checkPath(path string) error {
	if len(path) > maxPathLength {
		return bad("a path is longer than %d bytes", maxPathLength)
	}
	parts := strings.Split(path, "/")
	if len(parts) > maxPathParts {
		return bad("the path %q has more than %d parts", path, maxPathParts)
	}
	for _, part := range parts {
		switch {
		case part == "" && path != "" && path[0] == '/':
			return bad("the path %q is absolute", path)
		case part == "":
			return bad("the path %q has an empty part", path)
		case part == "..":
			return bad("the path %q leads out of the package", path)
		case part[0] == '.':
			return bad("the path %q has a part that begins with a dot", path)
		case part[0] == '-':
			return bad("the path %q has a part that begins with a hyphen", path)
		case strings.ContainsFunc(part, notInPath):
			return bad("the path %q has other characters than letters, digits and %s", path, pathMarks)
		}
	}
	return nil
}

const pathMarks = "._+@=,-"

func notInPath(r rune) bool {
	if r < 0x80 && (isDigit(byte(r)) || isLetter(byte(r))) {
		return false
	}
	return !strings.ContainsRune(pathMarks, r)
}

// pathSet refuses paths that cannot all be there on every file system.
type pathSet map[string]bool // by their lower-case form; false for a folder

func (s pathSet) add(path string) error {
	folded := strings.ToLower(path)
	if _, taken := s[folded]; taken {
		return bad("the path %q is there twice, as it is or in another case, or as a file and a folder", path)
	}
	s[folded] = true
	for at := range folded {
		if folded[at] != '/' {
			continue
		}
		if isFile := s[folded[:at]]; isFile {
			return bad("%q is a file and a folder", path[:at])
		}
		s[folded[:at]] = false
	}
	return nil
}

// checkFileName tells what is wrong with a name of a file at the top of a variant.
func checkFileName(name string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf("%w: %q is not the name of a file", ErrFormat, name)
	}
	return checkPath(name)
}

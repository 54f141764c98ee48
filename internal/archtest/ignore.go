package archtest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// ignoreList is the repository's .gitignore: build outputs and caches are not sources. Only the forms that the file uses
// are understood (names, shell patterns, a leading slash for the root, a trailing one for directories); another form is
// an error, so that a file is never looked past by misunderstanding.
type ignoreList []string

func readIgnore(fsys fs.FS) (ignoreList, error) {
	content, err := fs.ReadFile(fsys, ".gitignore")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read .gitignore: %w", err)
	}
	var list ignoreList
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		middle := strings.Trim(line, "/")
		if _, err := path.Match(middle, ""); err != nil || line[0] == '!' || strings.Contains(line, "**") ||
			line[0] != '/' && strings.Contains(middle, "/") {
			return nil, fmt.Errorf("read .gitignore: this package does not understand %q: use a plainer pattern", line)
		}
		list = append(list, line)
	}
	return list, nil
}

// matches reports whether the file or directory name, a slash-separated path below the root, is ignored.
func (l ignoreList) matches(name string, dir bool) bool {
	for _, pattern := range l {
		if strings.HasSuffix(pattern, "/") && !dir {
			continue
		}
		against := path.Base(name)
		if pattern[0] == '/' {
			against = name
		}
		if ok, err := path.Match(strings.Trim(pattern, "/"), against); err == nil && ok {
			return true
		}
	}
	return false
}

package archtest

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)\(`)
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code     = regexp.MustCompile("`[^`\n]*`")
)

// TestDocs holds the documents to what they name: a test that a promise points to must exist, and so must the file
// behind a relative link.
func TestDocs(t *testing.T) {
	root := os.DirFS("../..")
	tests := make(map[string]bool)
	var documents []string
	ignored, err := readIgnore(root)
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && (aside(name) || ignored.matches(name, d.IsDir())):
			if d.IsDir() {
				return fs.SkipDir
			}
		case strings.HasSuffix(name, "_test.go"):
			content, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			for _, m := range testFunc.FindAllStringSubmatch(string(content), -1) {
				tests[m[1]] = true
			}
		case strings.HasSuffix(name, ".md"):
			documents = append(documents, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tests) == 0 || len(documents) == 0 {
		t.Fatalf("found %d tests and %d documents", len(tests), len(documents))
	}
	for _, name := range documents {
		content, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllStringSubmatch(string(content), -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which no test file has", name, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(string(content), ""), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := fs.Stat(root, path.Join(path.Dir(name), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}

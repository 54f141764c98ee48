package archtest

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)\(`)
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code     = regexp.MustCompile("`([^`\n]*)`")
	title    = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	fenced   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inTitle  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	target   = regexp.MustCompile(`(?m)^([a-z][a-z0-9 %-]*):`)
	makeCall = regexp.MustCompile("(?m)(?:`|^ *|&& )make ([a-z][A-Za-z0-9-]*)")
)

// repository is what the documents speak of.
type repository struct {
	fs.FS
	tests     map[string][]string // folders of tests, by the test's name
	targets   []string            // of the Makefile, one of which may end in %
	documents map[string]string   // texts by name
}

func readRepository(t *testing.T) repository {
	t.Helper()
	r := repository{FS: os.DirFS("../.."), tests: map[string][]string{}, documents: map[string]string{}}
	ignored, err := readIgnore(r)
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(r, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && (aside(name) || ignored.matches(name, d.IsDir())):
			if d.IsDir() {
				return fs.SkipDir
			}
		case strings.HasSuffix(name, "_test.go"):
			content, err := fs.ReadFile(r, name)
			if err != nil {
				return err
			}
			for _, m := range testFunc.FindAllStringSubmatch(string(content), -1) {
				r.tests[m[1]] = append(r.tests[m[1]], path.Dir(name))
			}
		case strings.HasSuffix(name, ".md"):
			content, err := fs.ReadFile(r, name)
			if err != nil {
				return err
			}
			r.documents[name] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range target.FindAllStringSubmatch(readText(t, "Makefile"), -1) {
		r.targets = append(r.targets, strings.Fields(m[1])...)
	}
	if len(r.tests) == 0 || len(r.documents) == 0 || len(r.targets) == 0 {
		t.Fatalf("found %d tests, %d documents and %d targets", len(r.tests), len(r.documents), len(r.targets))
	}
	return r
}

// TestDocs holds the documents to what they name: a test that a promise points to must exist, in the package that is named
// before it; and so must a target of the Makefile, the file behind a relative link, and the heading in it.
func TestDocs(t *testing.T) {
	r := readRepository(t)
	for name := range r.documents {
		for _, wrong := range r.mistakes(name) {
			t.Errorf("%s %s", name, wrong)
		}
	}
}

// TestDocsMistakes: each mistake is found.
func TestDocsMistakes(t *testing.T) {
	r := readRepository(t)
	for text, want := range map[string]string{
		"`TestDocs` shows it":                                   "",
		"`TestOfNothing` shows it":                              "names TestOfNothing, which no test file has",
		"| all | `internal/archtest` `TestDocs` |":              "",
		"| all | `make test`; `engine` `TestDocs` |":            "says that TestDocs is in engine, and it is in internal/archtest",
		"[here](ARCHITECTURE.md), [there](a.md) `[](b)`":        "links to a.md, which is not there",
		"[it](#that)\n## This":                                  "links to #that, which is no heading there",
		"[it](#this-that-is-it)\n## This: *that*, [is](x) `it`": "links to x, which is not there",
		"[it](ARCHITECTURE.md#nowhere-to-be-found)":             "links to ARCHITECTURE.md#nowhere-to-be-found, which is no heading there",
		"```sh\nmake tests\n```":                                "says make tests, which is no target of the Makefile",
		"`make test`, `make bench-doc` and `make bench-agent`":  "",
		"`make bench-paint` and `make soak-slow`":               "says make bench-paint, which is no target of the Makefile",
	} {
		r.documents["docs/this.md"] = text
		if got := strings.Join(r.mistakes("docs/this.md"), "; "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// mistakes says what a document names that is not there.
func (r repository) mistakes(name string) (wrong []string) {
	text := r.documents[name]
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, m := range testName.FindAllStringSubmatch(text, -1) {
		if r.tests[m[1]] == nil {
			say("names %s, which no test file has", m[1])
		}
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		pkg := ""
		for _, m := range code.FindAllStringSubmatch(line, -1) {
			folders := r.tests[m[1]]
			switch {
			case folders == nil:
				pkg = ""
				if info, err := fs.Stat(r, m[1]); err == nil && info.IsDir() {
					pkg = m[1]
				}
			case pkg != "" && !slices.ContainsFunc(folders, func(f string) bool { return f == pkg || strings.HasPrefix(f, pkg+"/") }):
				say("says that %s is in %s, and it is in %s", m[1], pkg, strings.Join(folders, " and "))
			}
		}
	}
	for _, m := range makeCall.FindAllStringSubmatch(text, -1) {
		if !strings.HasSuffix(m[1], "-NAME") && !r.makes(m[1]) {
			say("says make %s, which is no target of the Makefile", m[1])
		}
	}
	for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		file, anchor, has := strings.Cut(m[1], "#")
		if strings.Contains(file, "://") {
			continue
		}
		to := name
		if file != "" {
			to = path.Join(path.Dir(name), file)
		}
		if _, ok := r.documents[to]; !ok {
			if _, err := fs.Stat(r, to); err != nil {
				say("links to %s, which is not there", m[1])
				continue
			}
		}
		if has && strings.HasSuffix(to, ".md") && !slices.Contains(headings(r.documents[to]), anchor) {
			say("links to %s, which is no heading there", m[1])
		}
	}
	return wrong
}

// makes reports whether the Makefile has a target. Those of bench-% are programs.
func (r repository) makes(name string) bool {
	if slices.Contains(r.targets, name) {
		return true
	}
	program, ok := strings.CutPrefix(name, "bench-")
	if _, err := fs.Stat(r, path.Join("bench", program, "main.go")); !ok || err != nil {
		return false
	}
	return slices.Contains(r.targets, "bench-%")
}

// headings are the anchors of a document, as GitHub makes them.
func headings(text string) (anchors []string) {
	for _, m := range title.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		plain := strings.ToLower(strings.TrimSpace(inTitle.ReplaceAllString(m[1], "$1")))
		anchor := strings.ReplaceAll(notAnchor.ReplaceAllString(plain, ""), " ", "-")
		first := anchor
		for n := 1; slices.Contains(anchors, anchor); n++ {
			anchor = fmt.Sprintf("%s-%d", first, n)
		}
		anchors = append(anchors, anchor)
	}
	return anchors
}

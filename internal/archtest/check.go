package archtest

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// maxFileBytes bounds a file of the repository: what is larger is generated or fetched by a script, never committed.
const maxFileBytes = 1 << 20

// banned lists texts that no committed file may contain, with the reason. The literals are cut in two so that this file
// does not contain them.
var banned = []struct {
	text   *regexp.Regexp
	reason string
}{
	{regexp.MustCompile(`(^|[^\w.\-/}])/` + `(work|root)/`), "is a path of one developer's machine"},
	{regexp.MustCompile(`\b(pypi` + `\.org|files\.pythonhosted` + `\.org|(proxy|sum)\.golang` + `\.org)\b`),
		"names a public registry: which one is used is the business of the host's own configuration, it may have a mirror or none"},
}

// A violation is one broken rule.
type violation struct {
	where string // file, or file:line
	what  string // one sentence
}

func (v violation) String() string { return v.where + ": " + v.what }

// source is one parsed Go file.
type source struct {
	file      string // path below the module root, with slashes
	pkg       string // its directory below the module root; "" is the root itself
	test      bool   // a _test.go file
	generated bool   // carries the standard "Code generated" line
	syntax    *ast.File
}

// checker applies the rules to one tree.
type checker struct {
	module  string // path of the module, such as example.com/m
	rules   []rule
	fset    *token.FileSet
	sources []source
	found   []violation

	// Method names that generated interfaces demand. An implementation of such an interface cannot choose its names.
	demanded map[string]bool
}

// check reads the tree fsys, which holds the module's go.mod at its root, and returns every violation of rules.
// The error is about reading; it says nothing about rules.
func check(fsys fs.FS, rules []rule) ([]violation, error) {
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, fmt.Errorf("read the module's go.mod: %w", err)
	}
	name := regexp.MustCompile(`(?m)^module\s+(\S+)`).FindSubmatch(mod)
	if name == nil {
		return nil, errors.New("find the module's name: go.mod has no module line")
	}
	ignored, err := readIgnore(fsys)
	if err != nil {
		return nil, err
	}
	c := &checker{module: string(name[1]), rules: rules, fset: token.NewFileSet(), demanded: map[string]bool{}}
	if err := c.walk(fsys, ignored); err != nil {
		return nil, err
	}
	for _, s := range c.sources {
		c.checkImports(s)
		if !s.generated {
			c.checkNames(s)
		}
	}
	return c.found, nil
}

func (c *checker) report(where, format string, args ...any) {
	c.found = append(c.found, violation{where, fmt.Sprintf(format, args...)})
}

// at names a position as file:line.
func (c *checker) at(s source, n ast.Node) string {
	return s.file + ":" + strconv.Itoa(c.fset.Position(n.Pos()).Line)
}

// walk visits every file that is or could be committed, checks its content, and collects the Go files of this module.
func (c *checker) walk(fsys fs.FS, ignored ignoreList) error {
	nested := "" // the nested module the walk is in; its Go files have rules of their own
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("walk the source tree: %w", err)
		}
		if name == "." {
			return nil
		}
		if d.IsDir() {
			if name == ".git" || ignored.matches(name, true) {
				return fs.SkipDir
			}
			if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil && !inside(nested, name) {
				nested = name
			}
			return nil
		}
		if !d.Type().IsRegular() || ignored.matches(name, false) {
			return nil
		}
		content, err := c.checkContent(fsys, name, d)
		if err != nil || content == nil {
			return err
		}
		if path.Ext(name) != ".go" || inside(nested, name) || aside(name) {
			return nil
		}
		return c.parse(name, content)
	})
}

// inside reports whether name lies in the directory dir; nothing lies in "".
func inside(dir, name string) bool {
	return dir != "" && (name == dir || strings.HasPrefix(name, dir+"/"))
}

// aside reports whether the go command ignores the file because of a directory above it.
func aside(name string) bool {
	for _, element := range strings.Split(path.Dir(name), "/") {
		if element == "testdata" || element != "." && (element[0] == '.' || element[0] == '_') {
			return true
		}
	}
	return false
}

// checkContent checks what holds for every file. It returns the content, or nil when the file is too large to look at.
func (c *checker) checkContent(fsys fs.FS, name string, d fs.DirEntry) ([]byte, error) {
	info, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // an editor's temporary file went away between the listing and this look
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", name, err)
	}
	if info.Size() > maxFileBytes {
		c.report(name, "has %d bytes, the limit is %d: let a script fetch or generate it", info.Size(), maxFileBytes)
		return nil, nil
	}
	content, err := fs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	for _, b := range banned {
		if at := b.text.FindIndex(content); at != nil {
			line := 1 + bytes.Count(content[:at[1]], []byte("\n"))
			found := strings.TrimSpace(string(content[at[0]:at[1]]))
			c.report(name+":"+strconv.Itoa(line), "%q %s", found, b.reason)
		}
	}
	return content, nil
}

// parse adds one Go file of the module to c.sources.
func (c *checker) parse(name string, content []byte) error {
	syntax, err := parser.ParseFile(c.fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	s := source{
		file:      name,
		pkg:       strings.TrimPrefix(path.Dir(name), "."),
		test:      strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(syntax),
		syntax:    syntax,
	}
	c.sources = append(c.sources, s)
	if s.generated {
		ast.Inspect(syntax, func(n ast.Node) bool {
			if t, ok := n.(*ast.InterfaceType); ok {
				for _, m := range t.Methods.List {
					for _, id := range m.Names {
						c.demanded[id.Name] = true
					}
				}
			}
			return true
		})
	}
	return nil
}

// checkImports applies the table to the imports of one file.
func (c *checker) checkImports(s source) {
	r, ok := ruleFor(c.rules, s.pkg)
	if !ok {
		c.report(s.file, "package %q has no rule: add a line to internal/archtest/rules.go that says what it may import", s.pkg)
		return
	}
	for _, spec := range s.syntax.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser accepted the file, so this cannot be; the compiler would refuse it
		}
		switch {
		case target == "C" && !r.native:
			c.report(c.at(s, spec), `package %q must not import "C": native code is called in cdlr, internal/dl, internal/cuda and backends only`, s.pkg)
		case target == "unsafe" && !r.unsafe && !s.generated:
			c.report(c.at(s, spec), "package %q must not import unsafe: use the views of package tensor", s.pkg)
		}
		ours, ok := c.ours(target)
		if ok && ours != s.pkg {
			c.checkArrow(s, r, spec, ours)
		}
	}
}

// ours turns an import path into a path below the module.
func (c *checker) ours(target string) (pkg string, ok bool) {
	if target == c.module {
		return "", true
	}
	return strings.CutPrefix(target, c.module+"/")
}

// checkArrow decides whether a file of the package under rule r may import the package ours.
func (c *checker) checkArrow(s source, r rule, spec ast.Node, ours string) {
	to, known := ruleFor(c.rules, ours)
	if known && to.support {
		if s.test || matches("bench/...", s.pkg) || r.support && matchesAny(r.imports, ours) {
			return
		}
		c.report(c.at(s, spec), "package %q must not import %q: it exists for tests, import it from _test.go files", s.pkg, ours)
		return
	}
	if matchesAny(r.imports, ours) || s.test && matchesAny(r.tests, ours) {
		return
	}
	kind := "package"
	if s.test {
		kind = "the tests of package"
	}
	c.report(c.at(s, spec), "%s %q must not import %q: internal/archtest/rules.go draws no such arrow", kind, s.pkg, ours)
}

var getter = regexp.MustCompile(`^Get[A-Z0-9]`)

// checkNames refuses init functions and getters named GetX in one hand-written file.
func (c *checker) checkNames(s source) {
	for _, decl := range s.syntax.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		switch name := f.Name.Name; {
		case f.Recv == nil && name == "init":
			c.report(c.at(s, f), "init functions hide order and cost: do the work in a function that somebody calls")
		case getter.MatchString(name) && !c.demanded[name]:
			c.report(c.at(s, f), "%s is a getter: name it %s", name, strings.TrimPrefix(name, "Get"))
		}
	}
}

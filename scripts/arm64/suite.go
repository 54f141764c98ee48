//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/build"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// first are the packages that say most about a machine: they are tried before the others.
var first = []string{
	"tensor", "engine", "backends", "lane", "internal/lanewire", "internal/ring", "internal/server/lane", "internal/server/agent",
	"internal/capture/spool", "packaging", "internal/shm", "internal/transfer",
}

// An emulated processor is some ten times slower than the one that emulates it.
const (
	packagePatience   = 30 * time.Minute
	exceptionPatience = 3 * time.Minute
)

// testPackage is a package that has tests.
type testPackage struct {
	name   string   // below the module
	dir    string   // where its tests run
	binary string   // its compiled tests
	others []string // files of tests that are for amd64 alone
	err    error    // why they could not be compiled
	output []byte   // what the compiler said to that
}

// outcome is what became of the tests of one package. Parts of tests are not counted.
type outcome struct {
	passed, excepted int
	skipped          []string // with their reasons
	failed           []string
	wrong            []string // what is wrong with the exceptions
	log              []byte   // of what failed
	took             time.Duration
}

// suite is one run.
type suite struct {
	stdout     io.Writer
	self       string // this program
	work       string
	module     string
	env        []string
	short      bool
	exceptions []exception
}

// runSuite compiles the tests of all packages for arm64, or of those that args name, and runs them. It returns 1 if a test failed that is no exception, or if
// an exception is none.
func runSuite(ctx context.Context, stdout io.Writer, args []string) (int, error) {
	s := suite{stdout: stdout}
	flags := flag.NewFlagSet("suite", flag.ContinueOnError)
	flags.BoolVar(&s.short, "short", false, "run the tests in short, as make test-neon does")
	if err := flags.Parse(args); err != nil {
		return 0, err
	}
	var err error
	if s.self, err = os.Executable(); err != nil {
		return 0, err
	}
	if s.exceptions, err = parseExceptions(exceptionsFile); err != nil {
		return 0, err
	}
	if s.work, err = os.MkdirTemp("", "picket-arm64-"); err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(s.work) }()
	if err := os.Chmod(s.work, 0o755); err != nil { // some tests start themselves as another user
		return 0, err
	}
	if err := s.environment(); err != nil {
		return 0, err
	}
	if err := offerONNXRuntime(ctx); err != nil {
		return 0, err
	}
	packages, err := s.list(ctx, flags.Args())
	if err != nil {
		return 0, err
	}
	return s.all(ctx, packages)
}

// environment makes what the tests see: the compiler for arm64 has the names of the machine's own.
func (s *suite) environment() error {
	s.env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=1")
	if runtime.GOARCH == "arm64" {
		return nil
	}
	there, err := lookPath("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc")
	if err != nil {
		return err
	}
	compilers := filepath.Join(s.work, "compilers")
	if err := os.Mkdir(compilers, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"cc", "gcc"} {
		if err := os.Symlink(there, filepath.Join(compilers, name)); err != nil {
			return err
		}
	}
	s.env = append(s.env, "PATH="+compilers+":"+os.Getenv("PATH"))
	return nil
}

// offerONNXRuntime puts that for arm64 to where tests look for the machine's.
func offerONNXRuntime(ctx context.Context) error {
	if runtime.GOARCH == "arm64" {
		return nil
	}
	c := exec.CommandContext(ctx, "scripts/fetch-onnxruntime.sh", "aarch64")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("fetching ONNX Runtime for arm64: %w", err)
	}
	folders, err := filepath.Glob(".cache/onnxruntime/*-aarch64")
	if err != nil {
		return err
	}
	for _, folder := range folders {
		usual := strings.TrimSuffix(folder, "-aarch64")
		if err := os.MkdirAll(usual, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(folder, usual, "", syscall.MS_BIND, ""); err != nil { // in this namespace alone
			return fmt.Errorf("putting %s to where %s is: %w", folder, usual, err)
		}
	}
	return nil
}

// list returns the packages that have tests, in the order in which they are tried.
func (s *suite) list(ctx context.Context, patterns []string) ([]testPackage, error) {
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	const format = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}} {{.Module.Path}}{{range .IgnoredGoFiles}} {{.}}{{end}}{{end}}`
	c := exec.CommandContext(ctx, "go", append([]string{"list", "-f", format}, patterns...)...)
	c.Env, c.Stderr = s.env, os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	var packages []testPackage
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		s.module = fields[2]
		name := strings.TrimPrefix(fields[0], s.module+"/")
		p := testPackage{name: name, dir: fields[1], binary: filepath.Join(s.work, strings.ReplaceAll(name, "/", "-")+".test")}
		for _, file := range fields[3:] {
			there, err := forAMD64(filepath.Join(p.dir, file))
			if err != nil {
				return nil, err
			}
			if there {
				p.others = append(p.others, path.Join(name, file))
			}
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		return nil, errors.New("none of these packages has tests")
	}
	rank := func(p testPackage) int {
		for i, f := range first {
			if p.name == f || strings.HasPrefix(p.name, f+"/") {
				return i
			}
		}
		return len(first)
	}
	slices.SortStableFunc(packages, func(a, b testPackage) int { return rank(a) - rank(b) })
	return packages, nil
}

// forAMD64 reports whether a file that is not compiled for arm64 has tests, and would be compiled for amd64.
func forAMD64(file string) (bool, error) {
	if !strings.HasSuffix(file, "_test.go") {
		return false, nil
	}
	context := build.Default
	context.GOARCH, context.CgoEnabled = "amd64", true
	return context.MatchFile(filepath.Split(file))
}

// all tries the packages one after the other, while the next is compiled.
func (s *suite) all(ctx context.Context, packages []testPackage) (int, error) {
	began := time.Now()
	compiled := make(chan testPackage, 1)
	go func() {
		defer close(compiled)
		for _, p := range packages {
			c := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-o", p.binary, s.module+"/"+p.name)
			c.Dir, c.Env = p.dir, s.env
			p.output, p.err = c.CombinedOutput()
			compiled <- p
		}
	}()
	var total outcome
	outcomes := make(map[string]outcome, len(packages))
	for p := range compiled {
		o := s.one(ctx, p)
		if ctx.Err() != nil {
			continue
		}
		outcomes[p.name] = o
		fmt.Fprintf(s.stdout, "%-32s %4d passed, %d excepted, %d skipped themselves, %d failed  %.1f s\n", p.name, o.passed, o.excepted, len(o.skipped), len(o.failed), o.took.Seconds())
		_, _ = s.stdout.Write(o.log)
		total.passed, total.excepted, total.wrong = total.passed+o.passed, total.excepted+o.excepted, append(total.wrong, o.wrong...)
		for _, skip := range o.skipped {
			total.skipped = append(total.skipped, p.name+" "+skip)
		}
		for _, test := range o.failed {
			total.wrong = append(total.wrong, p.name+" "+test)
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, errors.New("ended before all was tried")
	}
	table(s.stdout, packages, outcomes)
	for _, p := range packages {
		for _, file := range p.others {
			fmt.Fprintf(s.stdout, "for amd64 alone: %s\n", file)
		}
	}
	for _, skip := range total.skipped {
		fmt.Fprintf(s.stdout, "skipped itself: %s\n", skip)
	}
	for _, wrong := range total.wrong {
		fmt.Fprintf(s.stdout, "wrong: %s\n", wrong)
	}
	fmt.Fprintf(s.stdout, "%d packages on arm64: %d tests passed, %d are excepted (scripts/arm64/exceptions.txt), %d skipped themselves, %d things are wrong; %.0f s\n",
		len(packages), total.passed, total.excepted, len(total.skipped), len(total.wrong), time.Since(began).Seconds())
	if len(total.wrong) > 0 {
		return 1, nil
	}
	return 0, nil
}

// table says again what became of each package, without what failed tests have written between the lines.
func table(w io.Writer, packages []testPackage, outcomes map[string]outcome) {
	fmt.Fprintf(w, "\n%-32s %8s %8s %8s %8s %8s\n", "package", "passed", "excepted", "skipped", "failed", "seconds")
	for _, p := range packages {
		o := outcomes[p.name]
		fmt.Fprintf(w, "%-32s %8d %8d %8d %8d %8.1f\n", p.name, o.passed, o.excepted, len(o.skipped), len(o.failed), o.took.Seconds())
	}
	fmt.Fprintln(w)
}

// one runs the tests of a package: first those that should pass, then each exception by itself, because it may hang, or end qemu.
func (s *suite) one(ctx context.Context, p testPackage) outcome {
	began := time.Now()
	if p.err != nil {
		return outcome{failed: []string{"does not compile"}, log: p.output}
	}
	defer func() { _ = os.Remove(p.binary) }()
	var own []exception
	if runtime.GOARCH != "arm64" {
		own = of(s.exceptions, p.name)
	}
	args := []string{"-test.timeout=" + packagePatience.String()}
	if len(own) > 0 {
		args = append(args, "-test.skip="+pattern(own))
	}
	o, _ := s.try(ctx, p, args)
	for _, e := range own {
		alone, seen := s.try(ctx, p, []string{"-test.timeout=" + exceptionPatience.String(), "-test.run=" + pattern([]exception{e})})
		switch {
		case !seen[e.test]:
			o.wrong = append(o.wrong, fmt.Sprintf("%s %s is an exception, and is not there", p.name, e.test))
		case len(alone.failed) == 0 && !e.sometimes:
			o.wrong = append(o.wrong, fmt.Sprintf("%s %s is an exception, and does not fail: %s", p.name, e.test, e.reason))
		default:
			o.excepted++
		}
	}
	o.took = time.Since(began)
	return o
}

// try runs some of a package's tests, and says which it saw.
func (s *suite) try(ctx context.Context, p testPackage, args []string) (outcome, map[string]bool) {
	if s.short {
		args = append(args, "-test.short")
	}
	args = append([]string{"tool", "test2json", "-p", p.name, s.self, "adopting", p.binary, "-test.v=test2json", "-test.paniconexit0"}, args...)
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir, c.Env = p.dir, s.env
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return read(out.Bytes(), err)
}

// read makes an outcome of what test2json has written of a process that ended with ended, and says which tests and parts of tests there were.
func read(events []byte, ended error) (outcome, map[string]bool) {
	var o outcome
	seen, running, failed := map[string]bool{}, map[string]bool{}, map[string]bool{}
	output := map[string][]byte{} // by test; that of the package has no name
	var order []string
	for line := range bytes.Lines(events) {
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal(line, &e); err != nil {
			output[""] = append(output[""], line...)
			continue
		}
		whole := !strings.Contains(e.Test, "/")
		switch e.Action {
		case "run":
			seen[e.Test], running[e.Test] = true, true
			order = append(order, e.Test)
		case "output":
			output[e.Test] = append(output[e.Test], e.Output...)
		case "pass", "fail", "skip":
			delete(running, e.Test)
			switch {
			case e.Test == "":
			case e.Action == "fail":
				failed[e.Test] = true
			case e.Action == "pass" && whole:
				o.passed++
			case e.Action == "skip" && whole:
				o.skipped = append(o.skipped, e.Test+": "+reason(output[e.Test]))
			}
		}
	}
	for _, test := range order {
		switch {
		case failed[test] && !partOf(test, failed):
			o.failed = append(o.failed, test+" failed")
		case running[test] && !partOf(test, running):
			o.failed = append(o.failed, test+" did not end")
		default:
			continue
		}
		o.log = append(o.log, output[test]...)
	}
	if ended != nil {
		if len(o.failed) == 0 {
			o.failed = []string{"failed after its tests: " + ended.Error()}
		}
		o.log = append(o.log, output[""]...)
	}
	return o, seen
}

// partOf reports whether one of these tests is a part of test.
func partOf(test string, tests map[string]bool) bool {
	for other := range tests {
		if strings.HasPrefix(other, test+"/") {
			return true
		}
	}
	return false
}

// reason is what a test has said last before it skipped itself.
func reason(output []byte) string {
	text := "it does not say why"
	for line := range strings.Lines(string(output)) {
		if _, said, ok := strings.Cut(line, ".go:"); ok {
			text = strings.TrimSpace(strings.TrimLeft(said, "0123456789:"))
		}
	}
	return text
}

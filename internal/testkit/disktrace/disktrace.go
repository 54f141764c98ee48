// Package disktrace tells whether what a program says is on disk is there, by the calls of the system that it makes.
//
// A process that is killed leaves the kernel's memory behind, so that no number of kills shows a missing fsync; and a file system in memory, which can lose
// power, shows it in the code above it only. Here the program itself runs, on a real file system, and strace writes down its calls: a file is dirty from a write
// to it until a sync of it that was begun afterwards has ended, and a name from its making until a sync of its folder. Whatever is dirty below a folder when
// the program prints a promise is what a loss of power could take.
//
// Bytes that are written through a mapping are not seen.
package disktrace

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Marker is how a line begins, on the standard output of a program that is traced, that is a promise: all that was done before is on disk. The line is one
// write.
const Marker = "on disk: "

// nameOf begins the sentence about a name.
const nameOf = "the name "

// Promise is what was not on disk when a promise was made.
type Promise struct {
	Text string // of the line, without the marker
	// Lost are paths, in order: "x has bytes that are not on disk", "the name x is not on disk", "x was renamed before its bytes were on disk".
	Lost []string
}

// Run runs the command, which must succeed, and gives its promises about what lies below dir.
func Run(t testing.TB, dir string, command *exec.Cmd) []Promise {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "trace")
	traced := exec.Command("strace", append([]string{"--follow-forks", "--decode-fds=path", "--signal=none", "--string-limit=256", "--quiet=all", "--output=" + out,
		"--trace=" + "?" + strings.Join(slices.Sorted(maps.Keys(calls)), ",?"), "--"}, command.Args...)...)
	traced.Env, traced.Dir = command.Env, command.Dir
	if said, err := traced.CombinedOutput(); err != nil {
		t.Fatalf("running %s below strace: %v\n%s", command.Args[0], err, said)
	}
	file, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d := newDisk(dir)
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := d.line(lines.Text()); err != nil {
			t.Fatalf("reading what strace said: %v in %q", err, lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return d.promises
}

// Self is the test program itself, with more in its environment, for a TestMain that does there what is to be traced.
func Self(t testing.TB, environment ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self)
	command.Env = append(os.Environ(), environment...)
	return command
}

// Check runs the command and fails where fewer promises than least are made, or one is not kept. Nobody misses the paths that begin as one of harmless, below
// dir: locks, and what is not finished.
func Check(t testing.TB, dir string, command *exec.Cmd, least int, harmless ...string) {
	t.Helper()
	promises := Run(t, dir, command)
	if len(promises) < least {
		t.Errorf("%d promises were made, want at least %d", len(promises), least)
	}
	for _, p := range promises {
		for _, lost := range p.Lost {
			of := strings.TrimPrefix(lost, nameOf)
			if !slices.ContainsFunc(harmless, func(path string) bool { return strings.HasPrefix(of, path) }) {
				t.Errorf("when it said %q, %s", p.Text, lost)
			}
		}
	}
}

// disk follows what is below dir.
type disk struct {
	dir      string
	step     int            // counts calls
	bytes    map[string]int // files with bytes that are not on disk, since when the last of them
	names    map[string]int // names that are not on disk, since when
	early    []string       // that were renamed too early
	started  map[string]begun
	promises []Promise
}

// begun is a call that another thread's call was told in the middle of.
type begun struct {
	text string
	step int
}

func newDisk(dir string) *disk {
	return &disk{dir: dir, bytes: map[string]int{}, names: map[string]int{}, started: map[string]begun{}}
}

// parts of a line: the process, the call, its arguments, what it returned.
var (
	wholeCall   = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(.*)$`)
	unfinished  = regexp.MustCompile(`^(\d+) +(\w+\(.*?),? <unfinished \.\.\.>$`)
	resumedCall = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
)

func (d *disk) line(text string) error {
	d.step++
	if m := unfinished.FindStringSubmatch(text); m != nil {
		d.started[m[1]] = begun{m[2], d.step}
		name, arguments, _ := strings.Cut(m[2], "(")
		return d.begins(name, arguments)
	}
	since := d.step
	if m := resumedCall.FindStringSubmatch(text); m != nil {
		was, ok := d.started[m[1]]
		if !ok || !strings.HasPrefix(was.text, m[2]+"(") {
			return errors.New("a call ends that was not begun")
		}
		delete(d.started, m[1])
		text, since = m[1]+" "+was.text+m[3], was.step
		if m = wholeCall.FindStringSubmatch(text); m == nil {
			return nil // the process ended in it
		}
		return d.ends(m[2], m[3], m[4]+m[5], since)
	}
	m := wholeCall.FindStringSubmatch(text)
	if m == nil {
		return nil // the process ended in it
	}
	return errors.Join(d.begins(m[2], m[3]), d.ends(m[2], m[3], m[4]+m[5], since))
}

// call is what a call does to files: when it is begun, and when it has succeeded.
type call struct {
	begins func(d *disk, a []string) error
	ends   func(d *disk, a []string, returned string, since int) error
}

// calls are those that change files, or force them to disk. What a call writes is dirty from its beginning, what it syncs is clean at its end.
var calls = map[string]call{
	"write":           {begins: written},
	"writev":          {begins: written},
	"pwrite64":        {begins: written},
	"pwritev":         {begins: written},
	"pwritev2":        {begins: written},
	"ftruncate":       {begins: written},
	"fallocate":       {begins: written},
	"copy_file_range": {begins: func(d *disk, a []string) error { return written(d, a[min(2, len(a)-1):]) }},
	"sendfile":        {begins: written},
	"fsync":           {ends: synced},
	"fdatasync":       {ends: synced},
	"openat":          {ends: opened},
	"open": {ends: func(d *disk, a []string, returned string, since int) error {
		return opened(d, append([]string{""}, a...), returned, since)
	}},
	"mkdirat": {ends: made},
	"mkdir": {ends: func(d *disk, a []string, returned string, since int) error {
		return made(d, append([]string{""}, a...), returned, since)
	}},
	"renameat":  {ends: renamed},
	"renameat2": {ends: renamed},
	"rename": {ends: func(d *disk, a []string, r string, s int) error {
		return renamed(d, []string{"", a[0], "", a[1]}, r, s)
	}},
	"linkat":   {ends: linked},
	"link":     {ends: func(d *disk, a []string, r string, s int) error { return linked(d, []string{"", a[0], "", a[1]}, r, s) }},
	"unlinkat": {ends: removed},
	"unlink":   {ends: func(d *disk, a []string, r string, s int) error { return removed(d, append([]string{""}, a...), r, s) }},
	"rmdir":    {ends: func(d *disk, a []string, r string, s int) error { return removed(d, append([]string{""}, a...), r, s) }},
}

func (d *disk) begins(name, arguments string) error {
	if c := calls[name]; c.begins != nil {
		return c.begins(d, split(arguments))
	}
	return nil
}

func (d *disk) ends(name, arguments, returned string, since int) error {
	if c := calls[name]; c.ends != nil && !strings.HasPrefix(returned, "-") {
		return c.ends(d, split(arguments), returned, since)
	}
	return nil
}

// split takes arguments apart, at commas outside of quotes and brackets.
func split(arguments string) []string {
	var all []string
	quoted, depth, from := false, 0, 0
	for i := 0; i < len(arguments); i++ {
		switch c := arguments[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case strings.IndexByte("<[{", c) >= 0:
			depth++
		case strings.IndexByte(">]}", c) >= 0:
			depth--
		case c == ',' && depth == 0:
			all = append(all, strings.TrimSpace(arguments[from:i]))
			from = i + 1
		}
	}
	return append(all, strings.TrimSpace(arguments[from:]))
}

// file is the path of a descriptor, such as 7</tmp/x>; empty for one that has none.
func file(argument string) string {
	_, path, found := strings.Cut(argument, "<")
	if !found || !strings.HasSuffix(path, ">") {
		return "" // or removed: ">(deleted)"
	}
	return strings.TrimSuffix(path, ">")
}

// place is the path that a folder's descriptor and a name mean.
func place(folder, name string) (string, error) {
	name, err := strconv.Unquote(strings.TrimSuffix(name, "..."))
	if err != nil {
		return "", fmt.Errorf("the name %s: %w", name, err)
	}
	if filepath.IsAbs(name) {
		return filepath.Clean(name), nil
	}
	return filepath.Join(file(folder), name), nil
}

// below tells whether a path is followed.
func (d *disk) below(path string) bool { return strings.HasPrefix(path, d.dir+"/") }

func written(d *disk, a []string) error {
	const standardOutput = "1"
	path := file(a[0])
	if descriptor, _, _ := strings.Cut(a[0], "<"); descriptor == standardOutput && len(a) > 1 {
		if text, err := strconv.Unquote(a[1]); err == nil && strings.HasPrefix(text, Marker) {
			d.promise(strings.TrimSpace(strings.TrimPrefix(text, Marker)))
		}
	}
	if d.below(path) {
		d.bytes[path] = d.step
	}
	return nil
}

func synced(d *disk, a []string, _ string, since int) error {
	path := file(a[0])
	if d.bytes[path] < since {
		delete(d.bytes, path)
	}
	maps.DeleteFunc(d.names, func(name string, made int) bool { return filepath.Dir(name) == path && made < since })
	return nil
}

func opened(d *disk, a []string, returned string, since int) error {
	path := file(returned)
	if !d.below(path) || len(a) < 3 {
		return nil
	}
	if strings.Contains(a[2], "O_CREAT") {
		// It may have been there: then one sync of its folder is asked for that was not needed, which nobody leaves out.
		if strings.Contains(a[2], "O_EXCL") || !d.knows(path) {
			d.names[path] = since
		}
	}
	if strings.Contains(a[2], "O_TRUNC") {
		d.bytes[path] = since
	}
	return nil
}

// knows tells whether a file was there before, as far as this process has told.
func (d *disk) knows(path string) bool {
	_, made := d.names[path]
	return made
}

func made(d *disk, a []string, _ string, since int) error {
	path, err := place(a[0], a[1])
	if err == nil && d.below(path) {
		d.names[path] = since
	}
	return err
}

func renamed(d *disk, a []string, _ string, since int) error {
	from, err := place(a[0], a[1])
	if err != nil {
		return err
	}
	to, err := place(a[2], a[3])
	if err != nil {
		return err
	}
	if _, dirty := d.bytes[from]; dirty && d.below(to) {
		d.early = append(d.early, to)
	}
	for _, of := range []map[string]int{d.bytes, d.names} {
		for path, at := range of {
			if path == from || strings.HasPrefix(path, from+"/") {
				delete(of, path)
				if next := to + path[len(from):]; d.below(next) {
					of[next] = at
				}
			}
		}
	}
	if d.below(to) {
		d.names[to] = since
	}
	return nil
}

func linked(d *disk, a []string, _ string, since int) error {
	to, err := place(a[2], a[3])
	if err != nil {
		return err
	}
	from, err := place(a[0], a[1])
	if err != nil {
		return err
	}
	if at, dirty := d.bytes[from]; dirty && d.below(to) {
		d.bytes[to] = at
	}
	if d.below(to) {
		d.names[to] = since
	}
	return nil
}

// removed forgets what is gone: that it comes back is no loss.
func removed(d *disk, a []string, _ string, _ int) error {
	path, err := place(a[0], a[1])
	delete(d.bytes, path)
	delete(d.names, path)
	return err
}

func (d *disk) promise(text string) {
	p := Promise{Text: text}
	name := func(path string) string { return strings.TrimPrefix(path, d.dir+"/") }
	for _, path := range slices.Sorted(maps.Keys(d.bytes)) {
		p.Lost = append(p.Lost, name(path)+" has bytes that are not on disk")
	}
	for _, path := range slices.Sorted(maps.Keys(d.names)) {
		p.Lost = append(p.Lost, nameOf+name(path)+" is not on disk")
	}
	for _, path := range d.early {
		p.Lost = append(p.Lost, name(path)+" was renamed before its bytes were on disk")
	}
	d.early = nil
	d.promises = append(d.promises, p)
}

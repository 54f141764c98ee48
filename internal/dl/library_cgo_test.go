//go:build cgo && linux

package dl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(flipChild); path != "" {
		runFlipChild(path)
	}
	code := m.Run()
	if n := OpenCount(); n != 0 {
		fmt.Fprintf(os.Stderr, "%d libraries were left open\n", n)
		code = 99
	}
	os.Exit(code)
}

func openFile(t *testing.T, path string, checks ...Check) (*Library, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return OpenFile(f, filepath.Base(path), checks...)
}

// answer reads the library's "const int answer", which lies on a page mapped from the file.
func answer(t *testing.T, l *Library) int32 {
	t.Helper()
	address, err := l.Symbol("answer")
	if err != nil {
		t.Fatal(err)
	}
	return *(*int32)(address)
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestOpenFileOutlivesTheFile(t *testing.T) {
	path := cCompile(t, "sealed", `const int answer = 42; const char filler[65536] = {1};`)
	l, err := openFile(t, path, ForHost("sealed.so", ThisHost(), "answer"))
	if err != nil {
		t.Fatal(err)
	}
	// Truncating the file under an ordinary mapping would end this process with SIGBUS at the next read.
	if err := os.WriteFile(path, []byte("gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, l); got != 42 {
		t.Errorf("answer = %d", got)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(maps), "memfd:sealed.so") {
		t.Error("the mapping does not carry the library's name")
	}
	// Not even this process can change the bytes.
	if _, err := unix.Pwrite(l.memfd, []byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to the copy: %v, want EPERM", err)
	}
	if err := unix.Ftruncate(l.memfd, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncating the copy: %v, want EPERM", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := l.Symbol("answer"); !errors.Is(err, ErrClosed) {
		t.Errorf("Symbol after Close: %v", err)
	}
	if _, ok := l.Lookup("answer"); ok {
		t.Error("Lookup after Close found a symbol")
	}
}

// Two libraries one after the other get the same descriptor number and so the same name; the second must not be the
// first.
func TestOpenFileReusesNumbersOnlyWhenFree(t *testing.T) {
	before := descriptors(t)
	for i := range 20 {
		l, err := openFile(t, cCompile(t, "number", fmt.Sprintf("const int answer = %d;", i)))
		if err != nil {
			t.Fatal(err)
		}
		if got := answer(t, l); got != int32(i) {
			t.Fatalf("library %d answers %d", i, got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestCloseKeepsTheNumberOfAResidentLibrary(t *testing.T) {
	before := RetainedCount()
	sticky, err := openFile(t, cCompile(t, "sticky", "const int answer = 1;", "-Wl,-z,nodelete"))
	if err != nil {
		t.Fatal(err)
	}
	name := sticky.loaded
	if err := sticky.Close(); err != nil {
		t.Fatal(err)
	}
	if got := RetainedCount(); got != before+1 {
		t.Errorf("%d retained, want %d", got, before+1)
	}
	if _, err := os.Stat(name); err != nil {
		t.Errorf("the descriptor was closed: %v", err)
	}
	next, err := openFile(t, cCompile(t, "next", "const int answer = 2;"))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if got := answer(t, next); got != 2 {
		t.Errorf("the next library answers %d, want 2", got)
	}
}

func TestOpenFileRefuses(t *testing.T) {
	write := func(name string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	large := write("large.so", nil)
	if err := os.Truncate(large, MaxFileSize+1); err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("bad signature")
	good := cCompile(t, "good", "const int answer = 1;")
	host := ThisHost()
	cases := []struct {
		name, path string
		checks     []Check
		want       string
	}{
		{"empty", write("empty.so", nil), nil, "opening library empty.so: it is empty"},
		{"large", large, nil, "opening library large.so: it has 1073741825 bytes, more than the 1073741824 that fit a library"},
		{"directory", t.TempDir(), nil, "it is not a regular file"},
		{"no library", write("text.so", []byte("hello")), nil, "opening library text.so: text.so: file too short"},
		{"no library, checked", write("text.so", []byte("hello")), []Check{ForHost("text.so", host)}, "opening library text.so: text.so is not an ELF library"},
		{"check fails", good, []Check{func(io.ReaderAt, int64) error { return refusal }}, "opening library good.so: bad signature"},
		{"symbol missing", good, []Check{ForHost("good.so", host, "predict")}, "opening library good.so: good.so does not export predict"},
		{"unresolved", cCompile(t, "open", "extern int nowhere(void); int f(void) { return nowhere(); }"), nil, "undefined symbol: nowhere"},
	}
	before := descriptors(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l, err := openFile(t, c.path, c.checks...)
			if err == nil {
				l.Close()
				t.Fatal("it was opened")
			}
			if l != nil {
				t.Error("a library together with an error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// What the checks read is what gets loaded, even if the file changes while they run.
func TestChecksReadTheCopy(t *testing.T) {
	path := cCompile(t, "swap", "const int answer = 7;")
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := openFile(t, path, func(library io.ReaderAt, size int64) error {
		if err := os.WriteFile(path, []byte("swapped while being checked"), 0o600); err != nil {
			return err
		}
		seen := make([]byte, size)
		if _, err := library.ReadAt(seen, 0); err != nil {
			return err
		}
		if string(seen) != string(original) {
			return errors.New("the check sees the new file")
		}
		if n, err := library.ReadAt(seen, size-1); n != 1 || err != io.EOF {
			return fmt.Errorf("reading over the end gave %d bytes and %w", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := answer(t, l); got != 7 {
		t.Errorf("answer = %d", got)
	}
}

func TestOpen(t *testing.T) {
	l, err := Open("libc.so.6")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Name() != "libc.so.6" {
		t.Errorf("name %q", l.Name())
	}
	if _, err := l.Symbol("malloc"); err != nil {
		t.Error(err)
	}
	_, err = l.Symbol("no_such_symbol")
	if err == nil || !strings.Contains(err.Error(), `looking up "no_such_symbol" in library libc.so.6`) {
		t.Errorf("got %v", err)
	}
	if _, ok := l.Lookup("no_such_symbol"); ok {
		t.Error("found a symbol that does not exist")
	}
	if _, ok := l.Lookup("a\x00b"); ok {
		t.Error("found a symbol with a zero byte")
	}
	for _, path := range []string{"", "libpicket-does-not-exist.so.9", "a\x00b"} {
		if l, err := Open(path); err == nil {
			l.Close()
			t.Errorf("Open(%q) succeeded", path)
		}
	}
}

// Errors stay with the goroutine that caused them: dlerror's text belongs to a thread.
func TestErrorsBelongToTheirCaller(t *testing.T) {
	l, err := Open("libc.so.6")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 200 {
				name := fmt.Sprintf("missing_%d_%d", g, i)
				if _, err := l.Symbol(name); err == nil || !strings.Contains(err.Error(), "undefined symbol: "+name) {
					t.Errorf("asked for %s, got %v", name, err)
					return
				}
			}
		})
	}
	group.Wait()
}

// What the loader says of a failed mapping has two causes with two remedies.
func TestExplainsFailedMappings(t *testing.T) {
	for problem, want := range map[string]string{
		"Operation not permitted": "opening library x.so: the kernel does not let this process run code from a memory file; " +
			"allow it in the security policy (SELinux execmem, seccomp) of the service: failed to map segment from shared object: Operation not permitted",
		"Cannot allocate memory": "opening library x.so: mapping its segments: cannot allocate memory",
	} {
		// The root stands for a descriptor that can be reached.
		err := explainOpen("x.so", "/", errors.New("failed to map segment from shared object: "+problem))
		if err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if memory := problem == "Cannot allocate memory"; errors.Is(err, unix.ENOMEM) != memory {
			t.Errorf("%v: whether memory is short is %v", err, !memory)
		}
	}
}

// A process that has no descriptor left is told so, whoever asks for one: the copy or the loader.
func TestExplainsTooManyFiles(t *testing.T) {
	const remedy = "raise LimitNOFILE (ulimit -n): too many open files"
	loader := explainOpen("x.so", "/", errors.New("libm.so.6: cannot open shared object file: Too many open files"))
	if !errors.Is(loader, unix.EMFILE) || !strings.HasSuffix(loader.Error(), remedy) {
		t.Errorf("the loader: %v", loader)
	}
	if err := explainOpen("x.so", "/", errors.New("libm.so.6: cannot open shared object file: Too many open files in system")); !errors.Is(err, unix.ENFILE) {
		t.Errorf("the loader: %v", err)
	}
	f, err := os.Open(cCompile(t, "files", "int answer(void) { return 42; }"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	// Descriptors in use stay; the next would be above the limit.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	l, err := OpenFile(f, "x.so")
	if restored := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); restored != nil {
		t.Fatal(restored)
	}
	if l != nil {
		l.Close()
	}
	if !errors.Is(err, unix.EMFILE) || !strings.HasSuffix(err.Error(), remedy) {
		t.Errorf("the copy: %v", err)
	}
}

func TestGlibcVersion(t *testing.T) {
	v := GlibcVersion()
	if parts := parseVersion(v); len(parts) < 2 || parts[0] != 2 {
		t.Errorf("glibc version %q", v)
	}
	if err := Probe(); err != nil {
		t.Error(err)
	}
}

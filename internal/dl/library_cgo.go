//go:build cgo && linux

package dl

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// dlerror keeps its text per thread, and a goroutine may change threads between two calls into C. So each of these
// fails and reads the reason in one call; the text is a copy that the caller frees.

static void *picket_dl_open(const char *name, int flags, char **problem) {
	dlerror();
	void *handle = dlopen(name, flags);
	if (handle == NULL) {
		const char *text = dlerror();
		*problem = strdup(text != NULL ? text : "the loader gave no reason");
	}
	return handle;
}

static void *picket_dl_symbol(void *handle, const char *name, char **problem) {
	dlerror();
	void *address = dlsym(handle, name);
	const char *text = dlerror();
	if (text != NULL)
		*problem = strdup(text);
	return address;
}

static int picket_dl_close(void *handle, char **problem) {
	dlerror();
	int rc = dlclose(handle);
	if (rc != 0) {
		const char *text = dlerror();
		*problem = strdup(text != NULL ? text : "the loader gave no reason");
	}
	return rc;
}

// Whether an object with this name is still loaded. RTLD_NOLOAD takes a reference if it is, given back at once.
static int picket_dl_resident(const char *name) {
	void *handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
	if (handle == NULL)
		return 0;
	dlclose(handle);
	return 1;
}

// Looked up rather than linked, so that the package builds with a C library that is not glibc.
static const char *picket_dl_glibc_version(void) {
	const char *(*version)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "gnu_get_libc_version");
	return version != NULL ? version() : NULL;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Probe returns nil if this build can load native libraries, or the reason why not, wrapping [ErrUnavailable].
func Probe() error { return nil }

// GlibcVersion returns the version of the C library in this process ("2.36"), or an empty string if it is not glibc.
func GlibcVersion() string {
	version := C.picket_dl_glibc_version()
	if version == nil {
		return ""
	}
	return C.GoString(version)
}

// Counters for leak tests. They count what the process as a whole holds, so they are the process's, not a value's.
var open, retained atomic.Int64

// OpenCount returns the number of libraries that were opened and not closed yet. A test main that wants zero at the
// end of its tests finds leaks with it.
func OpenCount() int { return int(open.Load()) }

// RetainedCount returns the number of libraries that stayed mapped after their Close, and whose memory file is
// therefore kept for good; see [Library.Close].
func RetainedCount() int { return int(retained.Load()) }

// noFile is the descriptor of a Library that was opened by path.
const noFile = -1

// A Library is a native library mapped into this process. The owner must Close it, after the last call into it has
// returned and everything made by it has been freed. Its methods may be called from several goroutines at once.
//
// A Library that becomes unreachable without Close is reported through [slog.Default] and stays mapped: nothing
// here can know whether C code of it is still running, and unmapping code that runs ends the process.
type Library struct {
	name    string
	loaded  string // the name under which the loader knows it
	cleanup runtime.Cleanup

	mu sync.RWMutex
	// handle is nil once closed.
	handle unsafe.Pointer
	// memfd is the sealed copy the library is mapped from, or noFile. It is a bare number and not an *os.File because
	// the finalizer of an os.File would close a descriptor that has to stay open; see Close.
	memfd int
}

// Open loads the library at path, or, if path has no slash, the one that the loader finds under that name, with all
// its symbols bound now (RTLD_NOW) and invisible to other libraries (RTLD_LOCAL). It is meant for libraries of the
// host, which package managers replace by renaming; for files from elsewhere use [OpenFile].
func Open(path string) (*Library, error) {
	if path == "" {
		// dlopen would take it as "the program itself".
		return nil, errors.New("opening a library: its path is empty")
	}
	if strings.IndexByte(path, 0) >= 0 {
		return nil, fmt.Errorf("opening library %q: its path contains a zero byte", path)
	}
	handle, err := dlopen(path)
	if err != nil {
		return nil, fmt.Errorf("opening library %s: %w", path, err)
	}
	return newLibrary(path, path, handle, noFile), nil
}

// OpenFile loads a library from a file that the caller has opened, through a sealed copy in memory. Name stands for
// the file in errors. The checks run one after the other on that copy, before any of its code does; the first error
// stops the opening and is returned wrapped. The reader they get must not be used after they return.
//
// f is borrowed for the call: OpenFile neither closes it nor moves its offset, and overwriting or truncating the file
// afterwards does not touch the library. The copy costs memory of the file's size while the library is open;
// a file above [MaxFileSize] is refused.
//
// The loader knows the library as /proc/self/fd/N, so /proc must be mounted.
func OpenFile(f *os.File, name string, checks ...Check) (*Library, error) {
	memfd, size, err := sealedCopy(f, name)
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			unix.Close(memfd)
		}
	}()
	for _, check := range checks {
		if err := check(descriptorReader(memfd), size); err != nil {
			return nil, fmt.Errorf("opening library %s: %w", name, err)
		}
	}
	loaded := fmt.Sprintf("/proc/self/fd/%d", memfd)
	handle, err := dlopen(loaded)
	if err != nil {
		// A failed dlopen can leave the object mapped when a constructor pinned it.
		if keep = resident(loaded); keep {
			retained.Add(1)
		}
		return nil, explainOpen(name, loaded, err)
	}
	keep = true
	return newLibrary(name, loaded, handle, memfd), nil
}

func newLibrary(name, loaded string, handle unsafe.Pointer, memfd int) *Library {
	l := &Library{name: name, loaded: loaded, handle: handle, memfd: memfd}
	open.Add(1)
	l.cleanup = runtime.AddCleanup(l, func(name string) {
		slog.Default().Error("native library was dropped without Close and stays mapped", "library", name)
	}, name)
	return l
}

// Name returns the name the library was opened with.
func (l *Library) Name() string { return l.name }

// Symbol returns the address of a symbol. Like dlsym it also finds symbols of the libraries this one depends on: to ask
// what the file itself exports, use [Object.Exports]. The address is valid until Close.
func (l *Library) Symbol(name string) (unsafe.Pointer, error) {
	address, err := l.symbol(name)
	if err != nil {
		return nil, fmt.Errorf("looking up %q in library %s: %w", name, l.name, err)
	}
	return address, nil
}

// Lookup is Symbol for a symbol that may be missing.
func (l *Library) Lookup(name string) (unsafe.Pointer, bool) {
	address, err := l.symbol(name)
	return address, err == nil
}

func (l *Library) symbol(name string) (unsafe.Pointer, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, errors.New("a symbol's name has no zero byte")
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.handle == nil {
		return nil, ErrClosed
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var problem *C.char
	address := C.picket_dl_symbol(l.handle, cname, &problem)
	if problem != nil {
		return nil, takeProblem(problem)
	}
	if address == nil {
		return nil, errors.New("it is defined as a null address")
	}
	return address, nil
}

// Close unmaps the library. The second and every further call does nothing and returns nil.
//
// A library may stay mapped all the same: it was linked with -z nodelete, has thread-local destructors to run, or
// another library depends on it. Then its memory file is kept open on purpose. The loader looks for a loaded object by
// its name first, and the name is the number of the descriptor: were it closed, the next OpenFile might get the
// same number, and with it the old library instead of its own. [RetainedCount] counts such descriptors.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return nil
	}
	l.cleanup.Stop()
	handle := l.handle
	l.handle = nil
	open.Add(-1)
	var problem *C.char
	closed := C.picket_dl_close(handle, &problem) == 0
	if l.memfd != noFile {
		if resident(l.loaded) {
			retained.Add(1)
		} else {
			unix.Close(l.memfd)
		}
	}
	if !closed {
		return fmt.Errorf("closing library %s: %w", l.name, takeProblem(problem))
	}
	return nil
}

func dlopen(name string) (unsafe.Pointer, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var problem *C.char
	handle := C.picket_dl_open(cname, C.RTLD_NOW|C.RTLD_LOCAL, &problem)
	if handle == nil {
		return nil, takeProblem(problem)
	}
	return handle, nil
}

func resident(name string) bool {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	return C.picket_dl_resident(cname) != 0
}

// takeProblem frees the text that a C function above left.
func takeProblem(problem *C.char) error {
	defer C.free(unsafe.Pointer(problem))
	return errors.New(C.GoString(problem))
}

// explainOpen replaces what the loader says about a number in /proc by what the operator can do something about.
func explainOpen(name, loaded string, err error) error {
	if _, statErr := os.Stat(loaded); statErr != nil {
		return fmt.Errorf("opening library %s: it is mapped through %s, which cannot be reached; mount /proc: %w", name, loaded, statErr)
	}
	text := err.Error()
	// The loader's words; it has no numbers. They are in English, because no Go program sets a locale.
	if strings.Contains(text, "Cannot allocate memory") {
		return fmt.Errorf("opening library %s: mapping its segments: %w", name, unix.ENOMEM)
	}
	for words, problem := range map[string]error{"Too many open files": unix.EMFILE, "Too many open files in system": unix.ENFILE} {
		if strings.HasSuffix(text, words) {
			return fmt.Errorf("opening library %s: %w", name, tooManyFiles(problem))
		}
	}
	if strings.Contains(text, "failed to map segment") {
		return fmt.Errorf("opening library %s: the kernel does not let this process run code from a memory file; "+
			"allow it in the security policy (SELinux execmem, seccomp) of the service: %s", name, text)
	}
	return fmt.Errorf("opening library %s: %s", name, strings.ReplaceAll(text, loaded, name))
}

// A descriptorReader reads a file by its descriptor, which stays its owner's.
type descriptorReader int

func (d descriptorReader) ReadAt(p []byte, offset int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(int(d), p[done:], offset+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

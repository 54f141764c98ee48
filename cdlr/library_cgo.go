//go:build cgo && linux

package cdlr

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include <string.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Counts of what the process holds, for leak tests.
var libraries, models atomic.Int64

// OpenLibraries returns the number of libraries that were opened and not closed.
func OpenLibraries() int { return int(libraries.Load()) }

// OpenModels returns the number of models that were created and not closed.
func OpenModels() int { return int(models.Load()) }

// A Library is an opened libdlr. Its methods may be called from several goroutines at once.
type Library struct {
	path    string
	cleanup runtime.Cleanup

	// mu is held for reading during calls into the library, for writing by Close.
	mu sync.RWMutex
	c  *C.picket_dlr // nil once closed
	// open counts the models of this library.
	open atomic.Int64
}

// Open loads libdlr from path; without a slash, from where the loader finds that name. The file is trusted: loading it
// runs its code. It stays mapped for the life of the process, even after Close, because the threads it leaves behind run
// its code. A library without the core functions of libdlr is refused.
func Open(path string) (*Library, error) {
	if path == "" || strings.IndexByte(path, 0) >= 0 {
		return nil, fmt.Errorf("opening libdlr: %q is not a path", path)
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	opened := C.picket_dlr_open(cpath)
	if opened.problem != nil {
		return nil, fmt.Errorf("opening libdlr: %s", takeText(opened.problem))
	}
	l := &Library{path: path, c: opened.library}
	for _, f := range functions {
		if f.essential && !l.has(f.name) {
			C.picket_dlr_close(l.c)
			return nil, fmt.Errorf("opening libdlr: %s is not libdlr: it does not export %s", path, f.name)
		}
	}
	libraries.Add(1)
	l.cleanup = runtime.AddCleanup(l, func(path string) {
		slog.Default().Error("libdlr was dropped without Close", "path", path)
	}, path)
	return l, nil
}

// Path returns the path the library was opened with.
func (l *Library) Path() string { return l.path }

// Have returns nil if the library has the C function of that name; a *[MissingFunctionError] if it lacks it; another
// error if that cannot be told: the name belongs to no version of the C API, or the library is closed.
func (l *Library) Have(name string) error {
	if _, ok := findFunction(name); !ok {
		return fmt.Errorf("no version of libdlr has a function %q", name)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.c == nil {
		return l.closed()
	}
	if l.has(name) {
		return nil
	}
	return l.missing(name)
}

// has looks the name up like the function table did. The library must be open.
func (l *Library) has(name string) bool { return l.symbol(name) != nil }

// symbol returns the address of anything the library exports, or nil.
func (l *Library) symbol(name string) unsafe.Pointer {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	return C.picket_dlr_symbol(l.c, cname)
}

// missing makes the error for a function that the library was found to lack.
func (l *Library) missing(name string) error {
	f, ok := findFunction(name)
	if !ok {
		panic("BUG: cdlr: no function " + name + " in the table")
	}
	return &MissingFunctionError{Library: l.path, Function: name, Since: f.since, Optional: f.optional}
}

func (l *Library) closed() error { return fmt.Errorf("libdlr %s: %w", l.path, ErrClosed) }

// Close gives the handle back. It fails, and changes nothing, while models of the library are open. The second and
// further calls do nothing and return nil.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil {
		return nil
	}
	if n := l.open.Load(); n != 0 {
		return fmt.Errorf("closing libdlr %s: %d of its models are still open", l.path, n)
	}
	l.cleanup.Stop()
	C.picket_dlr_close(l.c)
	l.c = nil
	libraries.Add(-1)
	return nil
}

// Version is GetDLRVersion (since 1.1): "1.6.0".
func (l *Library) Version() (string, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	const name = "GetDLRVersion"
	if l.c == nil {
		return "", l.closed()
	}
	if l.c.GetDLRVersion == nil {
		return "", l.missing(name)
	}
	r := C.picket_dlr_version(l.c)
	if r.problem != nil {
		return "", newError(name, r.problem)
	}
	return C.GoString(r.value), nil
}

// LastError is DLRGetLastError (since 1.0): the text of the last failure on the thread the call happens to run on. Every
// method reads its own failure itself; this is for goroutines locked to their thread, and for completeness.
func (l *Library) LastError() (string, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.c == nil {
		return "", l.closed()
	}
	return takeText(C.picket_dlr_last_error(l.c)), nil
}

// DeviceType is GetDLRDeviceType (since 1.4): the device, [CPU] for example, that the compiled.meta in a folder asks for.
// The path may be a list of folders separated by colons. A folder without compiled.meta, or without a device type
// in it, is an error without Message.
func (l *Library) DeviceType(path string) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	const name = "GetDLRDeviceType"
	if l.c == nil {
		return 0, l.closed()
	}
	if l.c.GetDLRDeviceType == nil {
		return 0, l.missing(name)
	}
	if err := checkText("path", path); err != nil {
		return 0, err
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	r := C.picket_dlr_device_type(l.c, cpath)
	if r.problem != nil {
		return 0, newError(name, r.problem)
	}
	return int(r.value), nil
}

// SetCustomAllocatorMalloc is SetDLRCustomAllocatorMalloc (since 1.6). Function is the address of a C function
// void *(size_t), or nil for malloc.
//
// It serves the parameter file of a TVM model while that is created, and a tree model's sparse copy of each input and its
// outputs. See [Library.SetCustomAllocatorMemalign] for what all three have in common.
func (l *Library) SetCustomAllocatorMalloc(function unsafe.Pointer) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	const name = "SetDLRCustomAllocatorMalloc"
	if l.c == nil {
		return l.closed()
	}
	if l.c.SetDLRCustomAllocatorMalloc == nil {
		return l.missing(name)
	}
	return optionalError(name, C.picket_dlr_set_malloc(l.c, function))
}

// SetCustomAllocatorFree is SetDLRCustomAllocatorFree (since 1.6). Function is the address of a C function void (void *),
// or nil for free. It frees what both other functions made; see [Library.SetCustomAllocatorMemalign].
func (l *Library) SetCustomAllocatorFree(function unsafe.Pointer) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	const name = "SetDLRCustomAllocatorFree"
	if l.c == nil {
		return l.closed()
	}
	if l.c.SetDLRCustomAllocatorFree == nil {
		return l.missing(name)
	}
	return optionalError(name, C.picket_dlr_set_free(l.c, function))
}

// SetCustomAllocatorMemalign is SetDLRCustomAllocatorMemalign (since 1.6). Function is the address of a C function
// void *(size_t alignment, size_t size).
//
// The allocators are the process's, not a model's or a Library's. Creating a TVM or Relay VM model when memalign and free
// are both set hands them to TVM, which from then on takes all its CPU memory from them: weights, inputs, outputs,
// intermediate storage, workspaces. With only one of the two, TVM gets neither, and libdlr warns on standard error. Tree
// models never use memalign.
//
// TVM keeps the two functions for good: setting nil later changes what libdlr hands over next, not what TVM has. And
// nothing remembers which allocator made what: memory made before a change is freed by the function set after it. So set
// all three once, together, before the first model, and keep the library they live in mapped until the process ends. They
// are called on every thread that runs a model, and at the exit of threads, so they must be safe for concurrent
// use, and must not be Go functions.
func (l *Library) SetCustomAllocatorMemalign(function unsafe.Pointer) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	const name = "SetDLRCustomAllocatorMemalign"
	if l.c == nil {
		return l.closed()
	}
	if l.c.SetDLRCustomAllocatorMemalign == nil {
		return l.missing(name)
	}
	return optionalError(name, C.picket_dlr_set_memalign(l.c, function))
}

// takeText copies a problem or the last error, and frees it.
func takeText(text *C.char) string {
	defer C.picket_dlr_free_text(text)
	return C.GoString(text)
}

// newError makes the Error of a failed function and frees its text.
func newError(function string, problem *C.char) error {
	detail := strings.TrimSpace(takeText(problem))
	message, _, _ := strings.Cut(detail, "\n")
	// A check without an explanation ends in a colon: "Check failed: treelite_input_:".
	return &Error{Function: function, Message: strings.TrimRight(message, " :"), Detail: detail}
}

// optionalError is newError for functions that return nothing else.
func optionalError(function string, problem *C.char) error {
	if problem == nil {
		return nil
	}
	return newError(function, problem)
}

// checkText refuses what C would see shortened.
func checkText(what, text string) error {
	if text == "" {
		return errors.New("cdlr: the " + what + " is empty")
	}
	if strings.IndexByte(text, 0) >= 0 {
		return fmt.Errorf("cdlr: the %s %q contains a zero byte", what, text)
	}
	return nil
}

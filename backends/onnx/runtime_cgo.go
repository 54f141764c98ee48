//go:build cgo && linux

package onnx

// #include <stdlib.h>
// #include "ort.h"
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/tensor"
)

// openSessions counts what the process holds, for leak tests.
var openSessions atomic.Int64

// OpenSessions is how many sessions of the library are open in this process.
func OpenSessions() int { return int(openSessions.Load()) }

// keptLibraries counts those that stay for as long as the process.
var keptLibraries atomic.Int64

// library is an opened ONNX Runtime with its environment. Its methods may be called by many goroutines at once, but close
// only when every session is closed.
type library struct {
	path, version string
	// providers are those that the library was built with, as it spells them; known when it is started.
	providers []string

	file *dl.Library
	base unsafe.Pointer // its OrtGetApiBase
	c    *C.picket_ort  // in C's memory; nil until it is started
	kept atomic.Bool    // a session of it was abandoned
}

// openLibrary opens the library at path, or what the loader finds under that name. Before it is asked for anything, it has to
// be started.
func openLibrary(path string) (*library, error) {
	file, err := dl.Open(path)
	if err != nil {
		return nil, err
	}
	l := &library{path: path, file: file}
	if err := l.identify(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// identify finds out the library's version.
func (l *library) identify() error {
	base, err := l.file.Symbol("OrtGetApiBase")
	if err != nil {
		return fmt.Errorf("%s is no ONNX Runtime: %w", l.path, err)
	}
	text := C.picket_ort_version(base)
	if text == nil {
		return fmt.Errorf("%s does not tell its version", l.path)
	}
	l.version = C.GoString(text)
	// The library is not asked for what it has not: it would print that to standard error.
	if err := checkVersion(l.path, l.version); err != nil {
		return err
	}
	l.base = base
	return nil
}

// start makes the library's environment, which takes some fifty milliseconds. threads is the size of the pool that sessions
// share; the first library that a process starts decides.
func (l *library) start(threads int) error {
	l.c = (*C.picket_ort)(C.calloc(1, C.sizeof_picket_ort))
	if err := takeProblem(C.picket_ort_open(l.c, l.base, apiVersion, C.int(threads))); err != nil {
		C.free(unsafe.Pointer(l.c))
		l.c = nil
		return fmt.Errorf("opening ONNX Runtime %s: %w", l.version, err)
	}
	var names *C.char
	if err := takeProblem(C.picket_ort_providers(l.c, &names)); err != nil {
		l.release()
		return fmt.Errorf("asking ONNX Runtime %s for its providers: %w", l.version, err)
	}
	l.providers = strings.Fields(C.GoString(names))
	C.free(unsafe.Pointer(names))
	return nil
}

// started tells whether start has succeeded.
func (l *library) started() bool { return l.c != nil }

func (l *library) release() {
	C.picket_ort_close(l.c)
	C.free(unsafe.Pointer(l.c))
	l.c = nil
}

// close gives the library back, unless a session of it was abandoned.
func (l *library) close() error {
	if l.kept.Load() {
		return nil
	}
	if l.started() {
		l.release()
	}
	return l.file.Close()
}

// session is a loaded model. Calls of it may run at the same time.
type session struct {
	library         *library
	inputs, outputs []value
	c               *C.picket_ort_session // in C's memory
}

// newSession makes a session of a model's bytes and of the files of weights beside it, which are borrowed for the call.
func (l *library) newSession(data *tensor.Buffer, files []weights, o sessionOptions) (*session, error) {
	given := C.picket_ort_options{threads: C.int(o.threads), provider: C.int(o.place.provider), device: C.int(o.place.device), memory: C.uint64_t(o.memory)}
	if o.variable {
		given.variable = 1
	}
	if len(files) > 0 {
		// The list holds pointers, so it is C's, and every name with it.
		list := unsafe.Slice((*C.picket_ort_file)(C.calloc(C.size_t(len(files)), C.sizeof_picket_ort_file)), len(files))
		defer func() {
			for i := range list {
				C.free(unsafe.Pointer(list[i].name))
			}
			C.free(unsafe.Pointer(unsafe.SliceData(list)))
		}()
		for i, f := range files {
			b := f.buffer.Bytes()
			list[i] = C.picket_ort_file{name: C.CString(f.name), data: unsafe.Pointer(unsafe.SliceData(b)), size: C.size_t(len(b))}
		}
		given.files, given.file_count = unsafe.SliceData(list), C.size_t(len(files))
	}
	s := &session{library: l, c: (*C.picket_ort_session)(C.calloc(1, C.sizeof_picket_ort_session))}
	b := data.Bytes()
	options := (*C.picket_ort_options)(C.malloc(C.sizeof_picket_ort_options))
	*options = given
	defer C.free(unsafe.Pointer(options))
	if err := takeProblem(C.picket_ort_session_open(l.c, unsafe.Pointer(unsafe.SliceData(b)), C.size_t(len(b)), options, s.c)); err != nil {
		C.free(unsafe.Pointer(s.c))
		return nil, err
	}
	openSessions.Add(1)
	s.inputs = valuesOf(unsafe.Slice(s.c.in, s.c.in_count))
	s.outputs = valuesOf(unsafe.Slice(s.c.out, s.c.out_count))
	return s, nil
}

// close gives the session back, after the last call.
func (s *session) close() {
	C.picket_ort_session_close(s.library.c, s.c)
	C.free(unsafe.Pointer(s.c))
	openSessions.Add(-1)
}

// abandon leaves the session as it is, for as long as the process, and the library with it: its destructors throw where CUDA does not
// answer any more, which would end the process.
func (s *session) abandon() {
	if !s.library.kept.Swap(true) {
		keptLibraries.Add(1)
	}
	openSessions.Add(-1)
}

func valuesOf(tensors []C.picket_ort_tensor) []value {
	list := make([]value, len(tensors))
	for i := range tensors {
		list[i] = valueOf(&tensors[i])
	}
	return list
}

func valueOf(t *C.picket_ort_tensor) value {
	v := value{name: C.GoString(t.name), tensor: t.tensor != 0, element: int(t.element), rank: int(t.rank)}
	for _, d := range t.dims[:min(v.rank, len(t.dims))] {
		v.dims = append(v.dims, int64(d))
	}
	return v
}

// call is what one instance needs to run a session. It is used by one goroutine at a time.
type call struct {
	session *session
	c       *C.picket_ort_call // in C's memory
	in, out []C.picket_ort_tensor
}

func (s *session) newCall() (*call, error) {
	c := &call{session: s, c: (*C.picket_ort_call)(C.calloc(1, C.sizeof_picket_ort_call))}
	if err := takeProblem(C.picket_ort_call_make(s.c, c.c)); err != nil {
		C.free(unsafe.Pointer(c.c))
		return nil, err
	}
	c.in, c.out = unsafe.Slice(c.c.in, s.c.in_count), unsafe.Slice(c.c.out, s.c.out_count)
	return c, nil
}

func (c *call) close() {
	C.picket_ort_call_free(c.session.library.c, c.c)
	C.free(unsafe.Pointer(c.c))
}

// run runs the session from in into out, which lie outside the Go heap, as all Buffers do. shrink gives the memory that the
// run took back when it ends.
func (c *call) run(in, out []tensor.Tensor, shrink bool) error {
	if err := lay(c.in, in); err != nil {
		return err
	}
	if err := lay(c.out, out); err != nil {
		return err
	}
	giveBack := C.int(0)
	if shrink {
		giveBack = 1
	}
	return takeProblem(C.picket_ort_run(c.session.library.c, c.session.c, c.c, giveBack))
}

// try runs the session from in and tells what comes out: the names, types and shapes. The numbers are dropped.
func (c *call) try(in []tensor.Tensor) ([]value, error) {
	if err := lay(c.in, in); err != nil {
		return nil, err
	}
	if err := takeProblem(C.picket_ort_try(c.session.library.c, c.session.c, c.c)); err != nil {
		return nil, err
	}
	return valuesOf(c.out), nil
}

// lay writes down where the tensors are.
func lay(to []C.picket_ort_tensor, tensors []tensor.Tensor) error {
	if len(to) != len(tensors) {
		return fmt.Errorf("%d tensors for %d of the model", len(tensors), len(to))
	}
	for i := range tensors {
		t, c := &tensors[i], &to[i]
		c.data, c.size = tensor.Pointer(*t), C.size_t(t.Size())
		c.rank = C.int(t.Shape.Rank())
		for d := range t.Shape.Rank() {
			c.dims[d] = C.int64_t(t.Shape.Dim(d))
		}
	}
	return nil
}

// takeProblem frees the text of a failure; nil for none.
func takeProblem(problem *C.char) error {
	if problem == nil {
		return nil
	}
	defer C.picket_ort_free_text(problem)
	return runtimeError(shorten(C.GoString(problem)))
}

// has tells whether the library was built with the provider.
func (l *library) has(name string) bool { return slices.Contains(l.providers, name) }

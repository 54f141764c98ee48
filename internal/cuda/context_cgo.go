//go:build cgo && linux

package cuda

/*
#include <stdlib.h>
#include "calls.h"
*/
import "C"

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

// Context is what the process has of a device: a reference on its primary context. Any number of goroutines may use it. The owner releases it
// after everything that was made in it.
type Context struct {
	driver *Driver
	device Device
	x      *C.picket_context // in C memory
	// refs are the owner's and one for each piece of pinned memory, which others may hold for longer than the owner knows.
	refs atomic.Int64
}

// Retain takes a reference on the device's primary context, and makes it where nobody has; then all of the process wait for the device as wait says.
func (d *Driver) Retain(device Device, wait Wait) (*Context, error) {
	c := &Context{driver: d, device: device, x: (*C.picket_context)(C.calloc(1, C.sizeof_picket_context))}
	if err := d.check(C.picket_retain(d.calls, C.int(device.Ordinal), C.int(wait), c.x), "making a context on "+device.Name); err != nil {
		C.free(unsafe.Pointer(c.x))
		return nil, err
	}
	live.Add(1)
	c.refs.Store(1)
	return c, nil
}

// Device is what the context is of.
func (c *Context) Device() Device { return c.device }

// Release gives the reference back, with the last piece of pinned memory at the latest. It is called once.
func (c *Context) Release() error {
	if c.refs.Add(-1) > 0 {
		return nil
	}
	live.Add(-1)
	err := c.driver.check(C.picket_release(c.x), "releasing the context of "+c.device.Name)
	C.free(unsafe.Pointer(c.x))
	c.x = nil
	return err
}

func (c *Context) check(result C.cu_result, doing string) error { return c.driver.check(result, doing) }

// made counts what a call has made.
func (c *Context) made(result C.cu_result, doing string) error {
	if result == 0 {
		live.Add(1)
		return nil
	}
	return c.check(result, doing)
}

// Memory is how much of the device's memory is free, and how much there is, in bytes.
func (c *Context) Memory() (free, total uint64, err error) {
	var f, t C.size_t
	err = c.check(C.picket_memory(c.x, &f, &t), "asking for free memory")
	return uint64(f), uint64(t), err
}

// Alloc takes n bytes of the device's memory, not cleared. It waits for the device. The caller frees them.
func (c *Context) Alloc(n int) (Ptr, error) {
	var at C.cu_ptr
	if result := C.picket_alloc(c.x, C.size_t(n), &at); result != 0 {
		return 0, c.check(result, fmt.Sprintf("allocating %d bytes on %s", n, c.device.Name))
	}
	live.Add(1)
	return Ptr(at), nil
}

// Free gives memory back. Nothing may be using it.
func (c *Context) Free(at Ptr) error {
	live.Add(-1)
	return c.check(C.picket_free(c.x, C.cu_ptr(at)), "freeing memory of the device")
}

// AllocHost takes n bytes of main memory that the driver has pinned, so that the device copies them by itself. They are outside the Go heap; the
// caller frees them.
func (c *Context) AllocHost(n int) ([]byte, error) {
	var at unsafe.Pointer
	if result := C.picket_alloc_host(c.x, C.size_t(n), &at); result != 0 {
		return nil, c.check(result, fmt.Sprintf("allocating %d pinned bytes", n))
	}
	live.Add(1)
	c.refs.Add(1)
	return unsafe.Slice((*byte)(at), n), nil
}

// FreeHost gives pinned memory back.
func (c *Context) FreeHost(memory []byte) error {
	live.Add(-1)
	err := c.check(C.picket_free_host(c.x, unsafe.Pointer(unsafe.SliceData(memory))), "freeing pinned memory")
	if released := c.Release(); err == nil {
		err = released
	}
	return err
}

// Stream is a queue of work for the device, done in order. It is for one goroutine at a time.
type Stream struct {
	c *Context
	h C.cu_handle
}

// NewStream makes a stream that waits for no other. The caller closes it.
func (c *Context) NewStream() (*Stream, error) {
	s := &Stream{c: c}
	if err := c.made(C.picket_stream(c.x, &s.h), "making a stream"); err != nil {
		return nil, err
	}
	return s, nil
}

// CopyIn copies n bytes from main memory to the device, after what is in the stream. from stays the stream's until it was waited for; where it is
// pinned, the call does not wait.
func (s *Stream) CopyIn(to Ptr, from unsafe.Pointer, n int) error {
	return s.c.check(C.picket_copy_in(s.c.x, C.cu_ptr(to), from, C.size_t(n), s.h), "copying to the device")
}

// CopyOut is the reverse of CopyIn.
func (s *Stream) CopyOut(to unsafe.Pointer, from Ptr, n int) error {
	return s.c.check(C.picket_copy_out(s.c.x, to, C.cu_ptr(from), C.size_t(n), s.h), "copying from the device")
}

// Launch runs a kernel of one parameter, which is copied from where it lies, in so many blocks of so many threads with so many bytes of shared
// memory each.
func (s *Stream) Launch(f Function, grid, block, shared int, parameter unsafe.Pointer) error {
	return s.c.check(C.picket_launch(s.c.x, f.h, C.uint(grid), C.uint(block), C.uint(shared), parameter, s.h), "launching a kernel")
}

// Record has the event be reached when all that is in the stream was done.
func (s *Stream) Record(e *Event) error {
	return s.c.check(C.picket_event_record(s.c.x, e.h, s.h), "recording an event")
}

// WaitFor has what comes next in the stream wait for the event.
func (s *Stream) WaitFor(e *Event) error {
	return s.c.check(C.picket_stream_wait(s.c.x, s.h, e.h), "making a stream wait")
}

// Synchronize waits until all that is in the stream was done. An error may be of any work that it held.
func (s *Stream) Synchronize() error {
	return s.c.check(C.picket_stream_synchronize(s.c.x, s.h), "waiting for the device")
}

// Close destroys the stream; what is in it is done all the same.
func (s *Stream) Close() error {
	live.Add(-1)
	return s.c.check(C.picket_stream_destroy(s.c.x, s.h), "closing a stream")
}

// Event is a point in a stream.
type Event struct {
	c *Context
	h C.cu_handle
}

// NewEvent makes an event, with timing one that Since can be asked of. The caller closes it.
func (c *Context) NewEvent(timing bool) (*Event, error) {
	e := &Event{c: c}
	with := C.int(0)
	if timing {
		with = 1
	}
	if err := c.made(C.picket_event(c.x, with, &e.h), "making an event"); err != nil {
		return nil, err
	}
	return e, nil
}

// Synchronize waits, asleep, until the event was reached. One that was never recorded is reached.
func (e *Event) Synchronize() error {
	return e.c.check(C.picket_event_synchronize(e.c.x, e.h), "waiting for the device")
}

// Since is how long it was on the device from the event before to e. Both were reached.
func (e *Event) Since(before *Event) (time.Duration, error) {
	var ms C.float
	err := e.c.check(C.picket_event_elapsed(e.c.x, before.h, e.h, &ms), "reading the time between two events")
	return time.Duration(float64(ms) * float64(time.Millisecond)), err
}

// Close destroys the event.
func (e *Event) Close() error {
	live.Add(-1)
	return e.c.check(C.picket_event_destroy(e.c.x, e.h), "closing an event")
}

// Module is code on the device.
type Module struct {
	c *Context
	h C.cu_handle
}

// Function is a kernel of a module, good until that is closed.
type Function struct{ h C.cu_handle }

// maxLog is how much of what the driver's compiler says is worth reading.
const maxLog = 2048

// Load has the driver compile PTX for the device, which takes a moment the first time; it keeps the outcome in ~/.nv/ComputeCache. The caller
// closes the module.
func (c *Context) Load(ptx []byte) (*Module, error) {
	image, log := C.CString(string(ptx)), (*C.char)(C.calloc(1, maxLog))
	defer C.free(unsafe.Pointer(image))
	defer C.free(unsafe.Pointer(log))
	m := &Module{c: c}
	err := c.made(C.picket_module(c.x, unsafe.Pointer(image), log, maxLog-1, &m.h), "compiling the kernels for "+c.device.Name)
	if err == nil {
		return m, nil
	}
	return nil, explainLoad(err, C.GoString(log), c.driver.version)
}

// Function finds a kernel by its name.
func (m *Module) Function(name string) (Function, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	var f Function
	err := m.c.check(C.picket_function(m.c.x, m.h, text, &f.h), "looking for kernel "+name)
	return f, err
}

// AllowShared lets the kernel be launched with so many bytes of shared memory, where that is more than 48 KiB.
func (m *Module) AllowShared(f Function, n int) error {
	return m.c.check(C.picket_allow_shared(m.c.x, f.h, C.int(n)), fmt.Sprintf("asking for %d bytes of shared memory", n))
}

// Close takes the code from the device.
func (m *Module) Close() error {
	live.Add(-1)
	return m.c.check(C.picket_module_unload(m.c.x, m.h), "unloading kernels")
}

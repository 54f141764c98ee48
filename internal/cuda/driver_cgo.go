//go:build cgo && linux

package cuda

/*
#include "calls.h"
*/
import "C"

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/picket-ml/picket/internal/dl"
)

// live counts contexts, memory, streams, events and modules that were made and not given back, for leak tests.
var live atomic.Int64

// Live is how many things of the driver's the process holds.
func Live() int64 { return live.Load() }

// Driver is the opened library, initialised. Any number of goroutines may use it.
type Driver struct {
	library *dl.Library
	calls   *C.picket_cuda // in C memory
	version int
}

// drivers are those that were opened, by path. A driver stays for as long as the process: it has started threads, and cannot be unmapped.
var drivers struct {
	mu     sync.Mutex
	byPath map[string]*Driver
}

// Drivers is how many libraries of drivers are open, for leak tests: they stay.
func Drivers() int {
	drivers.mu.Lock()
	defer drivers.mu.Unlock()
	return len(drivers.byPath)
}

// Open opens the driver's library, at path or, where that is empty, by its name, and initialises it, which takes some tenths of a second where
// the GPU was asleep. For a path that is open already it gives the same Driver. The error wraps ErrAbsent or ErrOld.
func Open(path string) (*Driver, error) {
	if path == "" {
		path = Library
	}
	drivers.mu.Lock()
	defer drivers.mu.Unlock()
	if d := drivers.byPath[path]; d != nil {
		return d, nil
	}
	d, err := open(path)
	if err != nil {
		return nil, err
	}
	if drivers.byPath == nil {
		drivers.byPath = map[string]*Driver{}
	}
	drivers.byPath[path] = d
	return d, nil
}

func open(path string) (*Driver, error) {
	library, err := dl.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; install the driver's libraries, or let the container runtime mount them (NVIDIA_DRIVER_CAPABILITIES=utility,compute)", ErrAbsent, err)
	}
	d := &Driver{library: library, calls: C.picket_cuda_new()}
	if err := d.start(); err != nil {
		C.picket_cuda_free(d.calls)
		if closed := library.Close(); closed != nil {
			return nil, fmt.Errorf("%w; and closing it again: %w", err, closed)
		}
		return nil, err
	}
	return d, nil
}

func (d *Driver) start() error {
	for i := range int(C.picket_cuda_count()) {
		name := C.GoString(C.picket_cuda_name(C.int(i)))
		address, found := d.library.Lookup(name)
		if !found {
			return fmt.Errorf("%w: %s has no %s; install driver 470 or newer", ErrOld, d.library.Name(), name)
		}
		C.picket_cuda_set(d.calls, C.int(i), address)
	}
	if err := d.check(C.picket_cuInit(d.calls), "starting CUDA"); err != nil {
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	var version C.int
	if err := d.check(C.picket_cuDriverGetVersion(d.calls, &version), "asking for the driver's version"); err != nil {
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	d.version = int(version)
	if d.version < MinVersion {
		return fmt.Errorf("%w: it supports CUDA %d.%d, and %d.%d is needed; install driver 470 or newer", ErrOld,
			d.version/1000, d.version%1000/10, MinVersion/1000, MinVersion%1000/10)
	}
	return nil
}

// check makes an error of a result that is none; without one it allocates nothing.
func (d *Driver) check(result C.cu_result, doing string) error {
	if result == 0 {
		return nil
	}
	e := &Error{Doing: doing, Code: int(result), Name: fmt.Sprintf("error %d", int(result)), Text: "an error it has no words for"}
	var text *C.char
	if C.picket_cuGetErrorName(d.calls, result, &text) == 0 && text != nil {
		e.Name = C.GoString(text)
	}
	text = nil
	if C.picket_cuGetErrorString(d.calls, result, &text) == 0 && text != nil {
		e.Text = C.GoString(text)
	}
	return e
}

// Version is the CUDA version that the driver supports: 12040 is 12.4.
func (d *Driver) Version() int { return d.version }

// maxDevices bounds what a broken driver may claim.
const maxDevices = 64

// Devices are all that the driver shows to this process.
func (d *Driver) Devices() ([]Device, error) {
	var count C.int
	if err := d.check(C.picket_cuDeviceGetCount(d.calls, &count), "counting devices"); err != nil {
		return nil, err
	}
	var all []Device
	for i := range min(int(count), maxDevices) {
		device, err := d.device(i)
		if err != nil {
			return nil, err
		}
		all = append(all, device)
	}
	return all, nil
}

func (d *Driver) device(ordinal int) (Device, error) {
	doing := fmt.Sprintf("asking about device %d", ordinal)
	var facts C.picket_cuda_facts
	if err := d.check(C.picket_cuda_describe(d.calls, C.int(ordinal), &facts), doing); err != nil {
		return Device{}, err
	}
	bytes := *(*[16]byte)(unsafe.Pointer(&facts.uuid))
	name := C.GoString(&facts.name[0])
	prefix := "GPU-"
	if strings.Contains(name, "MIG ") { // "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
		prefix = "MIG-"
	}
	return Device{
		Ordinal: ordinal, Name: name, UUID: uuid(prefix, bytes), Memory: uint64(facts.memory),
		Major: int(facts.major), Minor: int(facts.minor), Processors: int(facts.processors), Shared: int(facts.shared),
	}, nil
}

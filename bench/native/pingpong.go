//go:build cgo && linux

package native

// #include "pingpong.h"
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"time"
	"unsafe"
)

// PingPong is a side of two processes that wake each other with futex(2), through a
// file that both have mapped: the floor of calls through shared memory.
type PingPong struct{ c *C.pingpong }

// OpenPingPong maps the file at path, which is made if it is not there.
func OpenPingPong(path string) (PingPong, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	c, err := C.pingpong_open(name)
	if c == nil {
		return PingPong{}, fmt.Errorf("mapping %s: %w", path, err)
	}
	return PingPong{c}, nil
}

// Serve answers calls as long as the process lives.
func (p PingPong) Serve() { C.pingpong_serve(p.c) }

// Call makes the other process answer and returns how long that took.
func (p PingPong) Call() time.Duration { return time.Duration(C.pingpong_call(p.c)) }

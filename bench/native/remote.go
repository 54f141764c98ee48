//go:build cgo && linux

package native

// #include "remote.h"
// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"github.com/picket-ml/picket/tensor"
)

// Remote is one of two processes of which one asks the other to run a Peer, in C on both sides: the floor of what asking another process can cost.
type Remote struct {
	c      *C.remote
	socket *os.File
}

// OpenRemote makes a side of a connected socket, of the kind that keeps the boundaries of messages, and of the file at path, which both sides name,
// with room for so many rows. The socket stays the caller's. The caller calls Close.
func OpenRemote(socket *net.UnixConn, path string, rows int, t Task) (*Remote, error) {
	own, err := socket.File()
	if err != nil {
		return nil, fmt.Errorf("taking the socket of a remote peer: %w", err)
	}
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	c, err := C.remote_open(C.int(own.Fd()), name, C.int64_t(rows), C.int64_t(t.Features), C.int64_t(t.Outputs)) // Fd has made it one that blocks
	if c == nil {
		return nil, errors.Join(fmt.Errorf("mapping %s: %w", path, err), own.Close())
	}
	return &Remote{c, own}, nil
}

// Serve answers on both ways, until the other side closes its socket.
func (r *Remote) Serve(p *Peer) error {
	go C.remote_serve_memory(r.c, p.c) // for as long as the process lives, unless the peer fails, which the other side finds out
	if C.remote_serve_socket(r.c, p.c) != 0 {
		return fmt.Errorf("serving %s: %s", p.kind, C.GoString(&p.c.problem[0]))
	}
	return nil
}

// Way is how a Remote is asked.
type Way bool

// The ways.
const (
	OverSocket    Way = false
	ThroughMemory Way = true
)

// Ask asks the other side for answers to the rows of in, and returns how long that took. Without run they are whatever is there.
func (r *Remote) Ask(way Way, in tensor.Tensor, run bool, out tensor.Tensor) (time.Duration, error) {
	ran := C.int(0)
	if run {
		ran = 1
	}
	from, rows, to := (*C.float)(tensor.Pointer(in)), C.int64_t(in.Shape.Dim(0)), (*C.float)(tensor.Pointer(out))
	var took C.int64_t
	if way == ThroughMemory {
		took = C.remote_ask_memory(r.c, from, rows, ran, to)
	} else {
		took = C.remote_ask_socket(r.c, from, rows, ran, to)
	}
	if took < 0 {
		return 0, errors.New("a remote peer does not answer")
	}
	return time.Duration(took), nil
}

// Close ends this side, of one that asks.
func (r *Remote) Close() error {
	C.remote_close(r.c)
	return r.socket.Close()
}

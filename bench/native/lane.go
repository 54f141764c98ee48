//go:build cgo && linux

package native

// #cgo CFLAGS: -I${SRCDIR}/../../clients/c
// #include "lane.h"
// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// Lane is a caller of a lane in a closed loop, through the C client. One goroutine drives it; any may close it.
type Lane struct {
	mu sync.Mutex // held while it is driven
	c  *C.lane_caller

	closing sync.Once
}

// LaneTask is what a Lane asks about: Rows rows at once, which lie together in Data, of shape [rows, features] in float32. Data's memory is the caller's
// and is to live as long as the Lane.
type LaneTask struct {
	Socket, Model string
	Ring          bool // through a ring in shared memory
	Data          tensor.Tensor
	Rows          int
	Seed          uint64
}

// C writes what Go reads.
var _ = [1]struct{}{}[unsafe.Sizeof(Timed{})-C.sizeof_lane_timed]

// ConnectLane connects a caller. The caller of ConnectLane calls Close.
func ConnectLane(t LaneTask) (*Lane, error) {
	socket, model, ring := C.CString(t.Socket), C.CString(t.Model), C.int(0)
	defer C.free(unsafe.Pointer(socket))
	defer C.free(unsafe.Pointer(model))
	if t.Ring {
		ring = 1
	}
	c := C.lane_connect(socket, model, ring, C.uint32_t(t.Rows), C.uint32_t(4*t.Data.Shape.Dim(1)), C.uint64_t(t.Seed))
	if c == nil {
		return nil, fmt.Errorf("connecting to %s: there is no memory", t.Socket)
	}
	if problem := C.GoString(C.lane_problem(c)); problem != "" {
		C.lane_free(c)
		return nil, fmt.Errorf("connecting to %s: %s", t.Socket, problem)
	}
	return &Lane{c: c}, nil
}

// errClosed is of a Lane that is closed.
var errClosed = errors.New("the caller of the lane is closed")

// Drive asks about rows of data, which are those that the Lane was connected for, one request after the other, until the load ends or timed is full, and
// says how many of timed it has filled: all where the load goes on. The first request that has no answer ends it with a *lane.Error, which is of the last
// that was filled. Close ends it too, as if it were the load's end.
func (l *Lane) Drive(load *Load, data tensor.Tensor, timed []Timed) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil {
		return 0, errClosed
	}
	origin := C.lane_now() - C.int64_t(time.Since(load.Start))
	p := C.lane_load{origin: origin, end: C.int64_t(load.End), every: C.uint32_t(load.Every), tolerance: C.double(load.Tolerance)}
	filled := C.lane_drive(l.c, &p, tensor.Pointer(data), (*C.float)(unsafe.SliceData(load.Answers)), C.int64_t(data.Shape.Dim(0)),
		(*C.lane_timed)(unsafe.Pointer(unsafe.SliceData(timed))), C.int64_t(len(timed)))
	load.Asked, load.Took = load.Asked+int64(p.asked), time.Duration(p.took)
	if p.wrong > 0 && load.Wrong == 0 {
		load.WrongRow, load.WrongAnswer = int(p.row), float32(p.answer)
	}
	load.Wrong += int64(p.wrong)
	if n = int(filled); n == 0 || timed[n-1].code == 0 {
		return n, nil
	}
	return n, &lane.Error{
		Code: lane.Code(timed[n-1].code), RetryAfter: time.Duration(C.lane_retry_after(l.c)) * time.Microsecond, Sentence: C.GoString(C.lane_problem(l.c)),
	}
}

// Close ends the connection, and a Drive under way, which it waits for.
func (l *Lane) Close() error {
	l.closing.Do(func() {
		C.lane_stop(l.c)
		l.mu.Lock()
		defer l.mu.Unlock()
		C.lane_free(l.c)
		l.c = nil
	})
	return nil
}

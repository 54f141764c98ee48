package lanewire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/ring"
)

// maxPending is how many bytes may wait to be written before whoever has more
// has to wait. A single frame may be larger.
const maxPending = 256 << 10

// keepPending is the largest buffer that is kept for the next writer.
const keepPending = 512 << 10

// outBuffers are lent to writers that have something to write.
var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Writer collects frames and writes what has come together with as few calls of
// the kernel as there can be: while one goroutine writes, others append, and the
// one that writes takes theirs along. Its methods may be called by many
// goroutines at once.
type Writer struct {
	conn    *net.UnixConn
	raw     syscall.RawConn
	ring    *ring.Ring // what is written in the place of conn, if it is there
	packet  bool
	timeout time.Duration // how long the other side may take no byte
	// background lets another goroutine finish what the kernel has no room for,
	// so that whoever called can go on to wait for its own end.
	background bool

	mu      sync.Mutex
	room    *sync.Cond
	pending *[]byte // nil while there is nothing
	writing bool
	err     error

	// Of whoever is writing.
	try     func(fd uintptr) bool // one attempt, kept because making it allocates
	chunk   []byte
	wrote   int
	patient bool // waits for room in the kernel
	fault   error
}

// NewWriter makes a Writer of conn, which stays the caller's. A connection whose
// other side takes nothing for timeout is broken. With background, Flush does
// not wait for that.
func NewWriter(conn *net.UnixConn, timeout time.Duration, background bool) (*Writer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("preparing to write: %w", err)
	}
	w := &Writer{conn: conn, raw: raw, packet: isPacket(conn), timeout: timeout, background: background}
	w.room = sync.NewCond(&w.mu)
	w.try = w.attempt
	return w, nil
}

// UseRing has the Writer write to a ring in the place of its connection, while
// nobody else uses it. The ring stays the caller's.
func (w *Writer) UseRing(to *ring.Ring) { w.ring = to }

// Append adds a frame whose payload is the parts one after the other; h.Payload
// is set. It copies all of it. While too much waits to be written it waits too,
// until ctx ends. It fails when the connection is broken.
func (w *Writer) Append(ctx context.Context, h *Header, parts ...[]byte) error {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	h.Payload = uint32(size)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.waitForRoom(ctx); err != nil {
		return err
	}
	if w.pending == nil {
		w.pending = outBuffers.Get().(*[]byte)
	}
	b := *w.pending
	var header [HeaderSize]byte
	h.Put(header[:])
	b = append(b, header[:]...)
	for _, p := range parts {
		b = append(b, p...)
	}
	*w.pending = b
	return nil
}

// waitForRoom returns with w.mu held when another frame may be appended.
func (w *Writer) waitForRoom(ctx context.Context) error {
	if w.err == nil && w.full() && !w.writing {
		w.flush()
	}
	if w.err == nil && w.full() {
		// Rare: what this allocates does not matter.
		stop := context.AfterFunc(ctx, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.room.Broadcast()
		})
		defer stop()
		for w.err == nil && w.full() {
			if err := ctx.Err(); err != nil {
				return err
			}
			w.room.Wait()
		}
	}
	return w.err
}

// WaitForReader waits while so many bytes or more wait to be written because the other
// side takes none, or the connection is broken.
func (w *Writer) WaitForReader(most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.writing && w.pending != nil && len(*w.pending) >= most {
		w.room.Wait()
	}
}

func (w *Writer) full() bool { return w.pending != nil && len(*w.pending) >= maxPending }

// Flush writes what was appended, unless another goroutine is writing, which
// then takes it along. It fails when the connection is broken.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.writing {
		w.flush()
	}
	return w.err
}

// flush writes until nothing is pending. w.mu is held, but not while it writes,
// and nobody else is writing.
func (w *Writer) flush() {
	w.writing = true
	for w.err == nil && w.pending != nil {
		out := w.pending
		w.pending = nil
		w.room.Broadcast()
		w.mu.Unlock()
		rest, err := w.write(*out, false)
		if w.background && err == nil && len(rest) > 0 {
			// Nobody else writes until that goroutine has ended.
			go w.finish(out, rest)
			w.mu.Lock()
			return
		}
		if err == nil && len(rest) > 0 {
			_, err = w.write(rest, true)
		}
		w.mu.Lock()
		w.settle(out, err)
	}
	w.writing = false
	w.room.Broadcast()
}

// finish writes the rest of out, waiting for room in the kernel, and then goes on
// as flush does.
func (w *Writer) finish(out *[]byte, rest []byte) {
	_, err := w.write(rest, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(out, err)
	w.flush()
}

// settle takes back a buffer. w.mu is held.
func (w *Writer) settle(out *[]byte, err error) {
	if cap(*out) <= keepPending {
		*out = (*out)[:0]
		outBuffers.Put(out)
	}
	if err != nil && w.err == nil {
		w.err = err
	}
}

// write writes b. Without patience it returns what the kernel has no room for;
// with it, it waits, for as long as the other side takes something within the
// timeout.
func (w *Writer) write(b []byte, patient bool) (rest []byte, err error) {
	if w.ring != nil {
		return w.put(b, patient)
	}
	w.patient = patient
	for len(b) > 0 {
		w.chunk, w.wrote, w.fault = b, 0, nil
		if w.packet && len(b) > MaxMessage {
			w.chunk = b[:MaxMessage]
		}
		if patient {
			if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
				return nil, broken(err)
			}
		}
		if err := w.raw.Write(w.try); err != nil {
			return nil, broken(err)
		}
		if w.fault != nil {
			return nil, w.fault
		}
		if w.wrote == 0 {
			return b, nil
		}
		b = b[w.wrote:]
	}
	if patient {
		if err := w.conn.SetWriteDeadline(time.Time{}); err != nil {
			return nil, broken(err)
		}
	}
	return nil, nil
}

// put is write to a ring.
func (w *Writer) put(b []byte, patient bool) (rest []byte, err error) {
	for {
		n, err := w.ring.Out.Put(b)
		if err != nil {
			return nil, broken(err)
		}
		if b = b[n:]; len(b) == 0 || !patient {
			return b, nil
		}
		if err := w.ring.Out.WaitForRoom(w.timeout); err != nil {
			return nil, broken(err)
		}
	}
}

// attempt writes once. It reports false, to be called again when the kernel has
// room, only to those with patience.
func (w *Writer) attempt(fd uintptr) bool {
	for {
		n, err := writeSocket(fd, w.chunk)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return !w.patient
		case err != nil:
			w.fault = broken(err)
		case n == 0:
			w.fault = broken(io.ErrShortWrite)
		default:
			w.wrote = n
		}
		return true
	}
}

// broken is the error of a connection that cannot be written to.
func broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("writing: the other side reads nothing: %w", err)
	}
	return fmt.Errorf("writing: %w", err)
}

// Close makes Append and Flush fail with why. Whoever writes goes on until the
// connection is closed.
func (w *Writer) Close(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = why
	}
	w.room.Broadcast()
}

// Idle waits until nobody writes. The connection is closed or the Writer was, so
// it does not take longer than the timeout.
func (w *Writer) Idle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing {
		w.room.Wait()
	}
}

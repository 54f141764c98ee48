package lanewire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/ring"
)

// maxPending is how many bytes may wait to be written before whoever has more
// has to wait. A single frame may be larger.
const maxPending = 128 << 10

// keepPending is the largest buffer that is kept for the next writer.
const keepPending = 256 << 10

// outBuffers are lent to writers that have something to write.
var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Writer collects frames and writes what has come together with as few calls of
// the kernel as there can be: while one goroutine writes, others append, and the
// one that writes takes theirs along. Its methods may be called by many
// goroutines at once.
type Writer struct {
	socket  *Socket
	ring    *ring.Ring    // what is written in the place of the socket, if it is there
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
	again   func() bool // once more, kept because making it allocates
	fd      uintptr     // during an attempt
	rest    ring.Rest
	spins   *ring.Spins
}

// NewWriter makes a Writer of a socket, which stays the caller's. A connection whose
// other side takes nothing for timeout is broken. With background, Flush does
// not wait for that.
func NewWriter(socket *Socket, timeout time.Duration, background bool) *Writer {
	w := &Writer{socket: socket, timeout: timeout, background: background}
	w.room = sync.NewCond(&w.mu)
	w.try, w.again = w.attempt, w.once
	return w
}

// Spin allows the Writer to look for room before it waits for it. The Spins are shared
// by all that may look in the process.
func (w *Writer) Spin(s *ring.Spins) { w.spins = s }

// UseRing has the Writer write to a ring in the place of its socket, while
// nobody else uses it. The ring stays the caller's.
func (w *Writer) UseRing(to *ring.Ring) { w.ring = to }

// Append adds a frame whose payload is the parts one after the other; h.Payload
// is set. It copies all of it, except of a frame larger than a message: that is
// written at once, from where it lies. While too much waits to be written it waits
// too, until ctx ends. It fails when the connection is broken, and because ctx has
// ended only where nothing of the frame was taken. When it returns nobody has the
// parts any more.
func (w *Writer) Append(ctx context.Context, h *Header, parts ...[]byte) error {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	h.Payload = uint32(size)
	w.mu.Lock()
	defer w.mu.Unlock()
	if HeaderSize+size > MaxMessage {
		return w.appendLarge(ctx, h, parts)
	}
	if err := w.await(ctx, (*Writer).hasRoom); err != nil {
		return err
	}
	w.begin(h)
	for _, p := range parts {
		*w.pending = append(*w.pending, p...)
	}
	return nil
}

// begin appends a header to what is pending. w.mu is held.
func (w *Writer) begin(h *Header) {
	if w.pending == nil {
		w.pending = outBuffers.Get().(*[]byte)
	}
	var header [HeaderSize]byte
	h.Put(header[:])
	*w.pending = append(*w.pending, header[:]...)
}

// await returns with w.mu held when the Writer is ready. What is in the way it writes
// itself if nobody does.
func (w *Writer) await(ctx context.Context, ready func(*Writer) bool) error {
	if w.err == nil && !ready(w) && !w.writing {
		w.flush()
	}
	if w.err == nil && !ready(w) {
		// Rare: what this allocates does not matter.
		stop := context.AfterFunc(ctx, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.room.Broadcast()
		})
		defer stop()
		for w.err == nil && !ready(w) {
			if err := ctx.Err(); err != nil {
				return err
			}
			w.room.Wait()
		}
	}
	return w.err
}

// hasRoom tells whether another frame may be appended.
func (w *Writer) hasRoom() bool { return w.pending == nil || len(*w.pending) < maxPending }

// isQuiet tells whether nobody writes.
func (w *Writer) isQuiet() bool { return !w.writing }

// appendLarge writes what is pending and then the frame. w.mu is held, but not while it
// writes.
func (w *Writer) appendLarge(ctx context.Context, h *Header, parts [][]byte) error {
	if err := w.await(ctx, (*Writer).isQuiet); err != nil {
		return err
	}
	w.begin(h)
	w.writing = true
	out := w.pending
	w.pending = nil
	w.room.Broadcast()
	w.mu.Unlock()
	done, err := w.writeParts(ctx, out, parts)
	w.mu.Lock()
	if err == nil && !done {
		// Nobody else writes until that goroutine has ended.
		go w.finish(out, *out)
		return nil
	}
	w.settle(out, err)
	w.flush()
	return w.err
}

// writeParts writes out and then the parts, of which it copies only those that are not
// larger than a message. Where it is not done it leaves the rest of all in out.
func (w *Writer) writeParts(ctx context.Context, out *[]byte, parts [][]byte) (done bool, err error) {
	for len(*out) > 0 || len(parts) > 0 {
		for len(parts) > 0 && len(parts[0]) <= MaxMessage && len(*out) < maxPending {
			*out = append(*out, parts[0]...)
			parts = parts[1:]
		}
		rest, err := w.writeFor(ctx, *out)
		if err == nil && len(rest) == 0 && len(parts) > 0 {
			rest, err = w.writeFor(ctx, parts[0])
			parts = parts[1:]
		}
		if err != nil {
			return false, err
		}
		*out = append((*out)[:0], rest...)
		if len(rest) > 0 {
			for _, p := range parts {
				*out = append(*out, p...)
			}
			return false, nil
		}
	}
	return true, nil
}

// moment is how long a caller stays with the rest of its frame while the other side
// takes none of it, before it is copied for another goroutine to finish.
const moment = 10 * time.Millisecond

// writeFor writes b. In the background, the rest may be written by another goroutine:
// that is what it returns when ctx has ended or the other side takes its time.
func (w *Writer) writeFor(ctx context.Context, b []byte) (rest []byte, err error) {
	if !w.background {
		return nil, w.writeAll(b)
	}
	for len(b) > 0 && ctx.Err() == nil {
		piece := b[:min(len(b), maxPending)]
		rest, err := w.write(piece, moment)
		b = b[len(piece)-len(rest):]
		if err != nil || len(rest) > 0 {
			return b, err
		}
	}
	return b, nil
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
		rest, err := w.write(*out, 0)
		if w.background && err == nil && len(rest) > 0 {
			// Nobody else writes until that goroutine has ended.
			go w.finish(out, rest)
			w.mu.Lock()
			return
		}
		if err == nil && len(rest) > 0 {
			err = w.writeAll(rest)
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
	err := w.writeAll(rest)
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

// writeAll writes b. The other side takes something within the timeout each time, or
// the connection is broken.
func (w *Writer) writeAll(b []byte) error {
	rest, err := w.write(b, w.timeout)
	if err == nil && len(rest) > 0 {
		err = broken(os.ErrDeadlineExceeded)
	}
	return err
}

// write writes b. It returns what there is no room for, after it has waited for that
// long at most since there was some.
func (w *Writer) write(b []byte, most time.Duration) (rest []byte, err error) {
	if w.ring != nil {
		return w.put(b, most)
	}
	for len(b) > 0 {
		n, err := w.send(b, 0)
		if n == 0 && err == nil && most > 0 {
			n, err = w.send(b, most)
		}
		if n == 0 || err != nil {
			return b, err
		}
		b = b[n:]
	}
	return nil, nil
}

// send gives the kernel as much of b as it has room for within that time, which may be
// nothing.
func (w *Writer) send(b []byte, most time.Duration) (int, error) {
	if w.socket.packets && len(b) > MaxMessage {
		b = b[:MaxMessage]
	}
	w.chunk, w.wrote, w.fault, w.patient = b, 0, nil, most > 0
	err := w.socket.write(w.try, most)
	w.chunk = nil
	if w.patient && errors.Is(err, os.ErrDeadlineExceeded) {
		return w.wrote, w.fault
	}
	if err != nil {
		return 0, broken(err)
	}
	return w.wrote, w.fault
}

// put is write to a ring. A long b is put in pieces, so that the other side takes one
// out while the next is put in.
func (w *Writer) put(b []byte, most time.Duration) (rest []byte, err error) {
	for len(b) > 0 {
		n, err := w.ring.Out.Put(b[:min(len(b), MaxMessage)])
		if err != nil {
			return nil, broken(err)
		}
		if b = b[n:]; n > 0 {
			continue
		}
		if most == 0 {
			return b, nil
		}
		switch err := w.ring.Out.WaitForRoom(most); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return b, nil
		case err != nil:
			return nil, broken(err)
		}
	}
	return nil, nil
}

// attempt writes once. It reports false, to be called again when the kernel has
// room, only to those with patience.
func (w *Writer) attempt(fd uintptr) bool {
	w.fd = fd
	return w.once() || (w.patient && w.rest.Look(w.spins, w.again)) || !w.patient
}

// once writes once; it reports false when the kernel has no room.
func (w *Writer) once() bool {
	for {
		beforeWrite()
		n, err := writeSocket(w.fd, w.chunk)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return false
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

package lanewire

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/ring"
)

// bufferSize is room for a whole message behind what is left of a frame that is
// not larger than a message.
const bufferSize = 2*MaxMessage + HeaderSize

// streamSize is as much as most streams need, of which little is read at once: whoever
// reads no answers has a buffer for as long as that lasts.
const streamSize = 4 * enough

// buffers and streamBuffers are lent to readers that have something to read, so that
// connections that are silent hold none.
var (
	buffers       = newBuffers(bufferSize)
	streamBuffers = newBuffers(streamSize)
)

func newBuffers(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// ErrMessage is for a message on a SOCK_SEQPACKET socket that is too large: the
// kernel has cut it, so that what follows cannot be understood.
var ErrMessage = fmt.Errorf("a message is larger than %d bytes", MaxMessage)

// Reader reads what a connection brings. A SOCK_SEQPACKET socket is read as its
// messages one after the other: their boundaries mean nothing. It is used by one
// goroutine.
//
// Descriptors that the other side passes along are dropped by the kernel, because
// no room for them is offered.
type Reader struct {
	socket   *Socket
	ring     *ring.Ring            // what is read in the place of the socket, if it is there
	try      func(fd uintptr) bool // one attempt, kept because making it allocates
	large    largeRead
	most     int     // bytes to ask for at once
	buffer   *[]byte // nil while there is nothing, or little for long
	parked   []byte  // what is read of a frame while there is no buffer
	from, to int     // what of either is unread
	err      error   // of the last attempt
	later    error   // what came behind what the last attempt has read
	luck     int     // of looking for more messages than one: see drain
	fixed    fixed   // what Read reads into
	waiting  waiting
}

// maxParked is the most of a frame that is kept without a buffer.
const maxParked = 4 << 10

// enough is how many bytes are as many as are worth being looked for: some hundred
// requests of one row. Who reads no answers has about so much lie here, so that a
// stream, which would give whatever it is asked for, is asked for no more.
const enough = MaxMessage / 4

const (
	// A Reader that found a second message looks for so many reads again whether there
	// is one,
	patience = 16
	// and one that found none for so long, each so many reads.
	probe = 16
)

// NewReader makes a Reader of a socket, which stays the caller's.
func NewReader(socket *Socket) *Reader {
	r := &Reader{socket: socket, most: 2 * enough}
	if socket.packets {
		r.most = MaxMessage + 1 // one byte more than allowed shows that there is more
	}
	r.try, r.large.try, r.large.again = r.attempt, r.attemptLarge, r.again
	return r
}

// largeRead is what ReadTo needs.
type largeRead struct {
	try   func(fd uintptr) bool // one attempt, kept because making it allocates
	again func() bool           // likewise
	fd    uintptr               // during an attempt
	into  Destination
	rest  ring.Rest
	spins *ring.Spins
}

// Spin allows the Reader to look for the rest of a large frame before it waits for it.
// The Spins are shared by all that may look in the process.
func (r *Reader) Spin(s *ring.Spins) { r.large.spins = s }

// UseRing has the Reader read from a ring in the place of its socket. The ring
// stays the caller's.
func (r *Reader) UseRing(from *ring.Ring) { r.ring, r.most = from, MaxMessage }

// SetDeadline bounds how long Fill waits, also while it does; the zero time is no
// bound. It may be called by any goroutine, though not at the same time as UseRing.
func (r *Reader) SetDeadline(t time.Time) error {
	if r.ring != nil {
		r.ring.SetReadDeadline(t)
		return nil
	}
	return r.socket.SetReadDeadline(t)
}

// Buffered is what was read and not yet consumed, valid until the next Fill or
// Consume of all of it.
func (r *Reader) Buffered() []byte {
	if r.buffer == nil {
		return r.parked[r.from:r.to]
	}
	return (*r.buffer)[r.from:r.to]
}

// Consume marks the first n bytes of Buffered as read.
func (r *Reader) Consume(n int) {
	if r.from += n; r.from > r.to {
		panic("BUG: more was consumed than was there")
	}
}

// Fill waits for more bytes and appends them to Buffered, of which at most
// MaxMessage may be left. Of several messages that are there it takes those that it
// has room for, so that their requests are run together. It fails with io.EOF when the other side has closed,
// with os.ErrDeadlineExceeded at the deadline, and with ErrMessage.
func (r *Reader) Fill() error {
	if r.to-r.from > MaxMessage {
		panic("BUG: a reader was filled while more than a message was left")
	}
	if r.from == r.to {
		r.from, r.to = 0, 0
	}
	if r.err, r.later = r.later, nil; r.err != nil {
		r.release()
		return r.err
	}
	var err error
	if r.ring != nil {
		err = r.take()
	} else {
		err = r.socket.read(r.try, true)
	}
	if err != nil || r.err != nil {
		r.release()
		return errors.Join(err, r.err)
	}
	r.socket.brought(r.to - r.from)
	return nil
}

// Destination is memory that may be taken back while a Reader waits. Lend is called when
// there is something to be read, and gives room for more than a message; Return is told
// how many bytes of it were, and follows at once: between the two nobody waits.
type Destination interface {
	Lend() []byte
	Return(n int)
}

// ReadTo waits for more bytes and puts them into what to lends and nowhere else, which
// saves copying them from Buffered. Nothing may be left there. It fails as Fill does.
func (r *Reader) ReadTo(to Destination) error {
	if r.from != r.to {
		panic("BUG: a reader was to read past what it has")
	}
	r.release()
	if r.err, r.later = r.later, nil; r.err != nil {
		return r.err
	}
	if r.ring != nil {
		if err := r.ring.In.WaitForRest(); err != nil {
			return err
		}
		n, err := r.ring.In.Take(to.Lend()[:MaxMessage]) // so that there soon is room for more
		to.Return(n)
		return err
	}
	r.large.into = to
	err := r.socket.read(r.large.try, false)
	r.large.into = nil
	return errors.Join(err, r.err)
}

// fixed is a Destination that nobody takes back.
type fixed struct {
	b []byte
	n int
}

func (f *fixed) Lend() []byte { return f.b }

func (f *fixed) Return(n int) { f.n = n }

// Read is ReadTo into b, which has room for more than a message.
func (r *Reader) Read(b []byte) (int, error) {
	if len(b) <= MaxMessage {
		panic("BUG: a reader was to read into too little room")
	}
	r.fixed = fixed{b: b}
	err := r.ReadTo(&r.fixed)
	r.fixed.b = nil
	return r.fixed.n, err
}

// attemptLarge is attempt for ReadTo.
func (r *Reader) attemptLarge(fd uintptr) bool {
	r.large.fd = fd
	return r.again() || r.large.rest.Look(r.large.spins, r.large.again)
}

// again reads once; it reports false when there is nothing yet.
func (r *Reader) again() bool {
	b := r.large.into.Lend()
	if r.socket.packets {
		b = b[:MaxMessage+1]
	}
	n, err := r.socket.receive(r.large.fd, b)
	if err == nil && r.socket.packets && n > MaxMessage {
		n, err = 0, ErrMessage
	}
	r.large.into.Return(n)
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	r.err = err
	return true
}

// take is Fill from a ring.
func (r *Reader) take() error {
	if err := r.ring.In.Wait(); err != nil {
		return err
	}
	r.borrow()
	n, err := r.ring.In.Take((*r.buffer)[r.to : r.to+r.most])
	r.to += n
	return err
}

// attempt reads once; it reports false when there is nothing yet.
func (r *Reader) attempt(fd uintptr) bool {
	r.borrow()
	switch err := r.read(fd); {
	case errors.Is(err, syscall.EAGAIN):
		r.park()
		return false
	case err != nil:
		r.err = err
	case r.socket.packets:
		r.drain(fd)
	}
	return true
}

// read appends what one call of the kernel gives. It fails with syscall.EAGAIN itself
// when there is nothing.
func (r *Reader) read(fd uintptr) error {
	n, err := r.socket.receive(fd, (*r.buffer)[r.to:r.to+r.most])
	switch {
	case err != nil:
		return err
	case n > MaxMessage:
		return ErrMessage
	}
	r.to += n
	return nil
}

// drain reads the messages that came meanwhile. Whoever sends one request after the
// other never has a second one there, and is not made to wait for a call of the
// kernel that finds nothing: there it is tried once in a while.
func (r *Reader) drain(fd uintptr) {
	if r.luck--; r.luck < 0 && r.luck > -probe {
		return
	}
	for r.to <= enough {
		switch err := r.read(fd); {
		case errors.Is(err, syscall.EAGAIN):
			r.luck = max(r.luck, 0)
			return
		case err != nil:
			r.later = err
			return
		}
		r.luck = patience
	}
}

// Close gives the buffer back. The Reader may not be used any more.
func (r *Reader) Close() {
	r.from = r.to
	r.release()
}

// borrow makes sure that there is a buffer, with what is left of a frame in it and room behind that.
func (r *Reader) borrow() {
	if r.buffer != nil {
		if len(*r.buffer)-r.to >= r.most {
			return
		}
		if left := r.to - r.from; len(*r.buffer)-left >= r.most {
			copy(*r.buffer, (*r.buffer)[r.from:r.to])
			r.from, r.to = 0, left
			return
		}
	}
	left, pool := r.Buffered(), streamBuffers
	if len(left)+r.most > streamSize {
		pool = buffers
	}
	b := pool.Get().(*[]byte)
	n := copy(*b, left)
	r.giveBack()
	r.buffer, r.parked, r.from, r.to = b, r.parked[:0], 0, n
}

// giveBack gives the buffer back, if there is one.
func (r *Reader) giveBack() {
	switch {
	case r.buffer == nil:
	case len(*r.buffer) == streamSize:
		streamBuffers.Put(r.buffer)
	default:
		buffers.Put(r.buffer)
	}
	r.buffer = nil
}

// park gives the buffer back while the Reader waits. The beginning of a frame, of a
// client that takes its time, is kept in as much memory as it has.
func (r *Reader) park() {
	if left := r.to - r.from; left <= maxParked {
		if left > 0 {
			r.parked = append(r.parked[:0], r.Buffered()...)
		}
		r.giveBack()
		r.from, r.to = 0, left
	}
}

// release gives the buffer back if nothing is left in it.
func (r *Reader) release() {
	if r.buffer != nil && r.from == r.to {
		r.giveBack()
		r.from, r.to = 0, 0
	}
}

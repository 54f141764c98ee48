package lane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/ring"
)

// session is one connection. A goroutine, receive, reads all answers; those of a
// ring are read by the callers themselves.
type session struct {
	conn    *net.UnixConn
	socket  *lanewire.Socket // of conn
	ring    *ring.Ring       // nil as a rule
	lead    chan struct{}    // with a ring: one token; whoever has it reads the answers
	r       *lanewire.Reader
	w       *lanewire.Writer
	limits  lanewire.Welcome
	ended   chan struct{} // closed when receive has returned
	tokens  chan struct{} // one for each request that may be outstanding
	waiting atomic.Int32  // callers
	large   large         // of whoever reads
	lost    atomic.Bool   // it cannot be used any more
	leaving atomic.Bool   // the server said goodbye: nothing new is to be sent

	mu    sync.Mutex
	calls []slot
	free  []uint32 // slots that are not in use
	why   error    // what ended the session
}

// slot is a place for a call. The number in the upper half of a request's id
// changes each time, so that an answer that comes late is not taken for another's.
type slot struct {
	call  *call // nil when nobody waits for the answer any more
	turn  uint32
	taken bool
}

// call is a caller who waits.
type call struct {
	outputs   [][]byte   // to fill; nil for an opening
	explained *[]float32 // where contributions go, made where it has no room; nil where they are not asked for
	rows      int
	handle    uint32
	id        uint64 // of the request
	signature *Signature
	err       error
	done      chan struct{} // one token when the answer is there
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

func newSession(conn *net.UnixConn, timeout time.Duration, spins *ring.Spins) (*session, error) {
	s := &session{conn: conn, ended: make(chan struct{})}
	var err error
	if s.socket, err = lanewire.NewSocket(conn, nil); err != nil {
		return nil, err
	}
	s.r, s.w = lanewire.NewReader(s.socket), lanewire.NewWriter(s.socket, timeout, true)
	s.w.Spin(spins)
	return s, nil
}

// greet says hello and takes the server's limits.
func (s *session) greet(deadline time.Time) error {
	if err := s.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := s.conn.Write(hello(0)); err != nil {
		return err
	}
	for {
		b := s.r.Buffered()
		if len(b) >= lanewire.HeaderSize {
			var h lanewire.Header
			if err := h.Parse(b); err != nil {
				return err
			}
			if h.Payload > lanewire.MaxMessage-lanewire.HeaderSize {
				return fmt.Errorf("the daemon greets with %d bytes", h.Payload)
			}
			if size := lanewire.HeaderSize + int(h.Payload); len(b) >= size {
				err := s.takeWelcome(&h, b[lanewire.HeaderSize:size])
				s.r.Consume(size)
				return errors.Join(err, s.conn.SetDeadline(time.Time{}))
			}
		}
		if err := s.r.Fill(); err != nil {
			return err
		}
	}
}

func (s *session) takeWelcome(h *lanewire.Header, payload []byte) (err error) {
	switch h.Kind {
	case lanewire.KindWelcome:
		if s.limits, err = lanewire.ParseWelcome(payload); err != nil {
			return err
		}
		s.tokens = make(chan struct{}, min(s.limits.MaxOutstanding, maxOutstanding))
		return nil
	case lanewire.KindError:
		return failureOf(payload)
	default:
		return fmt.Errorf("the daemon greets with a frame of kind %d", h.Kind)
	}
}

// maxOutstanding is how many requests this client has under way at most.
const maxOutstanding = 1024

func (s *session) isUsable() bool { return !s.lost.Load() && !s.leaving.Load() }

// isLost tells whether what failed may be asked for again on another session.
func (s *session) isLost() bool { return s.lost.Load() || s.leaving.Load() }

// open asks for a model.
func (s *session) open(ctx context.Context, name string) (uint32, *Signature, error) {
	c := calls.Get().(*call)
	defer c.recycle()
	err := s.ask(ctx, c, lanewire.Header{Kind: lanewire.KindOpen}, []byte(name))
	return c.handle, c.signature, err
}

// predict asks for a prediction into outputs, and for the contributions of the features unless explained is nil. It says in name,
// unless that is nil, what the prediction is called.
func (s *session) predict(ctx context.Context, handle uint32, rows int, inputs, outputs [][]byte, explained *[]float32, name *Inference) error {
	size := 0
	for _, in := range inputs {
		size += len(in)
	}
	if size > int(s.limits.MaxPayload) {
		return invalid("%d bytes of inputs are more than the %d that the daemon takes: send fewer rows at once", size, s.limits.MaxPayload)
	}
	c := calls.Get().(*call)
	defer c.recycle()
	c.outputs, c.rows, c.explained = outputs, rows, explained
	h := lanewire.Header{Kind: lanewire.KindPredict, Handle: handle, Rows: uint32(rows), Deadline: deadlineOf(ctx)}
	if explained != nil {
		h.Flags = lanewire.FlagExplain
	}
	err := s.ask(ctx, c, h, inputs...)
	if name != nil {
		*name = Inference{s.limits.Connection, c.id}
	}
	return err
}

// recycle puts c, which nobody else has any more, back.
func (c *call) recycle() {
	c.outputs, c.explained, c.signature, c.err, c.handle, c.id, c.rows = nil, nil, nil, nil, 0, 0, 0
	calls.Put(c)
}

// ask sends a request and waits for its answer. When it returns nobody has c or
// the parts any more.
func (s *session) ask(ctx context.Context, c *call, h lanewire.Header, parts ...[]byte) error {
	if err := s.takeToken(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		<-s.tokens
		return ended(ctx)
	}
	var err error
	if h.ID, err = s.enter(c); err != nil {
		<-s.tokens
		return err
	}
	c.id = h.ID
	if err := s.w.Append(ctx, &h, parts...); err != nil {
		if ctx.Err() != nil {
			s.leave(h.ID) // nothing was sent
			return ended(ctx)
		}
		return s.broken(c, err)
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > 1 {
		// Others that are about to ask go first, and all are sent with one write.
		runtime.Gosched()
	}
	if err := s.w.Flush(); err != nil {
		return s.broken(c, err)
	}
	for {
		select {
		case <-c.done:
			return c.err
		case <-ctx.Done():
			return s.giveUp(ctx, c, h.ID)
		case <-s.lead:
			s.readFor(ctx, c)
		}
	}
}

// takeToken returns when one more request may be outstanding.
func (s *session) takeToken(ctx context.Context) error {
	select {
	case s.tokens <- struct{}{}:
		return nil
	default:
	}
	for {
		select {
		case s.tokens <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ended(ctx)
		case <-s.ended:
			return s.reason()
		case <-s.lead:
			s.readFor(ctx, nil)
		}
	}
}

// enter gives c a slot and returns the id of its request.
func (s *session) enter(c *call) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return 0, s.why
	}
	if s.leaving.Load() {
		return 0, errEnding
	}
	if len(s.free) == 0 {
		s.free = append(s.free, uint32(len(s.calls)))
		s.calls = append(s.calls, slot{})
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	at := &s.calls[i]
	at.call, at.taken, at.turn = c, true, at.turn+1
	return uint64(at.turn)<<32 | uint64(i), nil
}

// leave ends the request of that id, and returns who still waits for it.
func (s *session) leave(id uint64) *call {
	s.mu.Lock()
	c, taken := s.waits(id)
	if !taken {
		s.mu.Unlock()
		return nil
	}
	i := uint32(id)
	s.calls[i].call, s.calls[i].taken = nil, false
	s.free = append(s.free, i)
	s.mu.Unlock()
	<-s.tokens
	return c
}

// giveUp leaves the answer to be dropped when it comes, unless it is just being
// given.
func (s *session) giveUp(ctx context.Context, c *call, id uint64) error {
	s.mu.Lock()
	at := &s.calls[uint32(id)]
	if at.call != c || at.turn != uint32(id>>32) {
		s.mu.Unlock()
		<-c.done
		return c.err
	}
	at.call = nil
	s.mu.Unlock()
	h := lanewire.Header{Kind: lanewire.KindCancel, ID: id}
	if s.w.Append(ctx, &h) == nil { // not if the daemon reads nothing
		_ = s.w.Flush() // an error is that of the connection, which ends by itself
	}
	return ended(ctx)
}

// broken ends a session that cannot be written to; c is told so as all are.
func (s *session) broken(c *call, err error) error {
	s.end(unavailable("the connection to the daemon was lost", err))
	<-c.done
	return c.err
}

// end closes the connection; receive does the rest.
func (s *session) end(why error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = why
	}
	s.mu.Unlock()
	s.lost.Store(true)
	_ = s.conn.Close() // nothing is lost that anybody still wants
}

// reason is why the session has ended.
func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// errEnding is for requests that come after the goodbye; they go to the next
// session.
var errEnding = unavailable("the daemon is ending", nil)

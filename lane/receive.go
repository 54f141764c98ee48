package lane

import (
	"errors"
	"fmt"
	"io"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/tensor"
)

// receive hands out answers until the connection ends.
func (s *session) receive() {
	defer close(s.ended)
	s.fail(s.readAll())
	s.w.Idle()
	s.r.Close()
}

// readAll hands out answers until there are no more, and returns why.
func (s *session) readAll() error {
	for {
		if err := s.takeAnswers(); err != nil {
			return err
		}
		if err := s.r.Fill(); err != nil {
			return err
		}
	}
}

// fail ends the session and tells everybody who still waits.
func (s *session) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = errors.New("the daemon closed the connection")
	}
	var said *Error
	if !errors.As(err, &said) {
		said = unavailable("the connection to the daemon was lost", err)
	}
	s.end(said)
	s.w.Close(said)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.calls {
		if c := s.calls[i].call; c != nil {
			s.calls[i].call = nil
			c.err = s.why
			c.done <- struct{}{}
		}
	}
}

// takeAnswers handles all whole frames that were read, and waits for the rest of one
// that is larger than a message. It may be called again after a deadline.
func (s *session) takeAnswers() error {
	var h lanewire.Header
	for {
		if s.large.coming {
			if err := s.takeLarge(); err != nil {
				return err
			}
		}
		b := s.r.Buffered()
		if len(b) < lanewire.HeaderSize {
			return s.mayLeave()
		}
		if err := h.Parse(b); err != nil {
			return fmt.Errorf("the daemon does not speak the lane: %w", err)
		}
		if h.Payload > s.limits.MaxPayload {
			return fmt.Errorf("the daemon sends a frame of %d bytes, its own limit is %d", h.Payload, s.limits.MaxPayload)
		}
		size := lanewire.HeaderSize + int(h.Payload)
		if size > lanewire.MaxMessage {
			s.r.Consume(lanewire.HeaderSize)
			s.beginLarge(&h)
			continue
		}
		if len(b) < size {
			return s.mayLeave()
		}
		if err := s.answer(&h, b[lanewire.HeaderSize:size]); err != nil {
			return err
		}
		s.r.Consume(size)
	}
}

// large is a frame that is larger than a message, while it comes. An answer of the size
// that was asked for goes straight to the caller's outputs, as long as the caller waits
// for it; of one that is for nobody nothing is kept.
type large struct {
	session  *session
	coming   bool
	header   lanewire.Header
	left     int    // bytes of the payload that are to come
	straight bool   // to the outputs of call, while it waits, or nowhere
	call     *call  // who waited when it began, if anybody did
	output   int    // where the next byte goes, and
	at       int    // the place in it
	spare    []byte // what comes for a caller who has just left is read into
	payload  []byte // what has come where it does not go straight there: memory is taken for that, and not for what is said to come
}

// beginLarge remembers the frame that begins.
func (s *session) beginLarge(h *lanewire.Header) {
	s.large = large{session: s, coming: true, header: *h, left: int(h.Payload), spare: s.large.spare}
	if h.Kind != lanewire.KindResult {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, _ := s.waits(h.ID)
	s.large.call, s.large.straight = c, c == nil || c.explained == nil && c.fits(h)
}

// waits is the call that waits for the answer of that id, nil if it does not any more. It
// reports false where there is no such request. s.mu is held.
func (s *session) waits(id uint64) (c *call, taken bool) {
	i := uint32(id)
	if int64(i) >= int64(len(s.calls)) || !s.calls[i].taken || s.calls[i].turn != uint32(id>>32) {
		return nil, false
	}
	return s.calls[i].call, true
}

// fits tells whether the answer is of as many rows and bytes as were asked for.
func (c *call) fits(h *lanewire.Header) bool {
	size := 0
	for _, out := range c.outputs {
		size += len(out)
	}
	return c.outputs != nil && uint64(h.Rows) == uint64(c.rows) && uint64(h.Payload) == uint64(size)
}

// room is what is left of the output to which the next byte goes, which is not empty; nil
// where nobody waits for it. The session's lock is held.
func (l *large) room() []byte {
	c, _ := l.session.waits(l.header.ID)
	if c == nil || c != l.call {
		return nil
	}
	for l.at == len(c.outputs[l.output]) {
		l.output, l.at = l.output+1, 0
	}
	return c.outputs[l.output][l.at:]
}

// Lend implements lanewire.Destination: until Return, the caller cannot leave.
func (l *large) Lend() []byte {
	l.session.mu.Lock()
	if room := l.room(); len(room) > lanewire.MaxMessage {
		return room
	}
	if l.spare == nil {
		l.spare = make([]byte, lanewire.MaxMessage+1)
	}
	return l.spare
}

// Return implements lanewire.Destination.
func (l *large) Return(n int) {
	l.session.mu.Unlock()
	l.at += n
	l.left -= n
}

// put takes bytes that were read.
func (l *large) put(b []byte) {
	l.left -= len(b)
	if !l.straight {
		l.payload = append(l.payload, b...)
		return
	}
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	for len(b) > 0 {
		room := l.room()
		if room == nil {
			return
		}
		n := copy(room, b)
		l.at += n
		b = b[n:]
	}
}

// goesStraight tells whether what comes next needs no buffer in between: it is more than
// a message, or dropped. Messages need not end where outputs do.
func (l *large) goesStraight() bool {
	if !l.straight || l.left <= lanewire.MaxMessage {
		return false
	}
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	return len(l.room()) > lanewire.MaxMessage
}

// takeLarge collects the payload of a large frame and hands it out. After an error
// it goes on where it was.
func (s *session) takeLarge() error {
	l := &s.large
	for {
		b := s.r.Buffered()
		some := min(l.left, len(b))
		l.put(b[:some])
		s.r.Consume(some)
		if l.left == 0 {
			break
		}
		var err error
		if l.goesStraight() {
			err = s.r.ReadTo(l)
		} else {
			err = s.r.Fill()
		}
		if err != nil {
			return err
		}
	}
	l.coming = false
	if !l.straight {
		payload := l.payload
		l.payload = nil
		return s.answer(&l.header, payload)
	}
	if c := s.leave(l.header.ID); c != nil {
		if c != l.call {
			c.err = &Error{Code: Internal, Sentence: "the daemon began to answer before it was asked"}
		}
		c.done <- struct{}{}
	}
	return nil
}

// mayLeave ends a session that the server wants to end once nothing is
// outstanding.
func (s *session) mayLeave() error {
	if !s.leaving.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < len(s.calls) {
		return nil
	}
	return errEnding
}

// answer hands one frame to whom it is for.
func (s *session) answer(h *lanewire.Header, payload []byte) error {
	switch h.Kind {
	case lanewire.KindGoodbye:
		s.leaving.Store(true)
		return nil
	case lanewire.KindError:
		said := failureOf(payload)
		if h.Flags&lanewire.FlagFatal != 0 {
			return said
		}
		if c := s.leave(h.ID); c != nil {
			c.err = said
			c.done <- struct{}{}
		}
		return nil
	case lanewire.KindResult, lanewire.KindModel:
		if c := s.leave(h.ID); c != nil {
			c.err = c.take(h, payload)
			c.done <- struct{}{}
		}
		return nil
	default:
		return fmt.Errorf("the daemon sends a frame of kind %d", h.Kind)
	}
}

// take fills the call with its answer.
func (c *call) take(h *lanewire.Header, payload []byte) error {
	if (h.Kind == lanewire.KindModel) != (c.outputs == nil) {
		return &Error{Code: Internal, Sentence: fmt.Sprintf("the daemon answered with a frame of kind %d", h.Kind)}
	}
	if c.outputs == nil {
		inputs, outputs, err := lanewire.ParseSignature(payload)
		if err == nil {
			c.handle = h.Handle
			c.signature, err = newSignature(inputs, outputs)
		}
		if err != nil {
			return &Error{Code: Internal, Sentence: "the daemon described the model in a way that cannot be", cause: err}
		}
		return nil
	}
	size := 0
	for _, out := range c.outputs {
		size += len(out)
	}
	more := 0 // contributions, of which only the daemon knows how many there are
	if c.explained != nil && h.Rows != 0 {
		if more = len(payload) - size; more <= 0 || more%(4*int(h.Rows)) != 0 {
			return &Error{Code: Internal, Sentence: fmt.Sprintf("the daemon answered %d bytes to %d rows whose contributions were asked for", len(payload), c.rows)}
		}
		if room := len(*c.explained); room > 0 && 4*room != more {
			return invalid("there is room for %d contributions of %d rows, the model has %d", room, c.rows, more/4)
		}
	}
	if size+more != len(payload) || uint64(h.Rows) != uint64(c.rows) {
		return &Error{Code: Internal, Sentence: fmt.Sprintf("the daemon answered %d rows in %d bytes where %d rows in %d bytes were asked for", h.Rows, len(payload), c.rows, size)}
	}
	for _, out := range c.outputs {
		payload = payload[copy(out, payload):]
	}
	if c.explained != nil {
		if len(*c.explained) == 0 {
			*c.explained = make([]float32, more/4)
		}
		copy(tensor.AsBytes(*c.explained), payload)
	}
	return nil
}

// failureOf is the error that the daemon sent.
func failureOf(payload []byte) *Error {
	f, err := lanewire.ParseFailure(payload)
	if err != nil {
		return &Error{Code: Internal, Sentence: "the daemon sent an error that cannot be read", cause: err}
	}
	return &Error{Code: Code(f.Code), RetryAfter: f.Retry, Sentence: f.Sentence}
}

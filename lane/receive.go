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
			s.large = large{coming: true, header: h}
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

// large is a frame that is larger than a message, while it comes.
type large struct {
	coming  bool
	header  lanewire.Header
	payload []byte // what has come of it: memory is taken for that, and not for what is said to come
}

// takeLarge collects the payload of a large frame and hands it out. After an error
// it goes on where it was.
func (s *session) takeLarge() error {
	for l := &s.large; ; {
		b := s.r.Buffered()
		some := min(int(l.header.Payload)-len(l.payload), len(b))
		l.payload = append(l.payload, b[:some]...)
		s.r.Consume(some)
		if len(l.payload) == int(l.header.Payload) {
			whole := *l
			*l = large{}
			return s.answer(&whole.header, whole.payload)
		}
		if err := s.r.Fill(); err != nil {
			return err
		}
	}
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

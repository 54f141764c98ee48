package lane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/ring"
)

// greetForRing is greet for a client that would have a ring. It reads the socket by
// itself, because the Reader takes no descriptors.
func (s *session) greetForRing(deadline time.Time, spins *ring.Spins) error {
	if err := s.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := s.conn.Write(hello(lanewire.FeatureRing)); err != nil {
		return err
	}
	h, payload, descriptors, err := s.readWelcome()
	defer func() {
		for _, fd := range descriptors {
			closeDescriptor(fd)
		}
	}()
	if err != nil {
		return err
	}
	if err := s.takeWelcome(&h, payload); err != nil {
		return err
	}
	if err := s.conn.SetDeadline(time.Time{}); err != nil || s.limits.Features&lanewire.FeatureRing == 0 {
		return err
	}
	if len(descriptors) != 1 {
		return fmt.Errorf("the daemon promises a ring and hands over %d descriptors", len(descriptors))
	}
	if s.ring, err = ring.Map(descriptors[0], spins); err != nil {
		return err
	}
	s.r.UseRing(s.ring)
	s.w.UseRing(s.ring)
	s.lead = make(chan struct{}, 1)
	s.lead <- struct{}{}
	return nil
}

// readWelcome reads the one frame that answers a hello, and what came with it. The
// descriptors are the caller's to close, after an error too.
func (s *session) readWelcome() (h lanewire.Header, payload []byte, descriptors []int, err error) {
	buffer, control := make([]byte, lanewire.MaxMessage+1), make([]byte, controlSize)
	got := 0
	for {
		n, controls, _, _, err := s.conn.ReadMsgUnix(buffer[got:], control)
		if err != nil {
			return h, nil, descriptors, err
		}
		if n == 0 {
			return h, nil, descriptors, io.EOF
		}
		got += n
		more, err := descriptorsIn(control[:controls])
		descriptors = append(descriptors, more...)
		if err != nil {
			return h, nil, descriptors, fmt.Errorf("reading what came with the daemon's greeting: %w", err)
		}
		if got < lanewire.HeaderSize {
			continue
		}
		if err := h.Parse(buffer); err != nil {
			return h, nil, descriptors, err
		}
		size := uint64(lanewire.HeaderSize) + uint64(h.Payload)
		switch {
		case size > lanewire.MaxMessage || uint64(got) > size:
			return h, nil, descriptors, fmt.Errorf("the daemon greets with %d bytes, and says that it is %d", got, size)
		case uint64(got) == size:
			return h, buffer[lanewire.HeaderSize:size], descriptors, nil
		}
	}
}

// watch waits until the connection beside a ring ends, on either side, and ends the
// session when all answers that still came are handed out.
func (s *session) watch() {
	defer close(s.ended)
	var b [1]byte
	_, err := s.conn.Read(b[:])
	if err == nil {
		err = errors.New("the daemon sends to the socket beside a ring")
	}
	s.lost.Store(true)
	s.ring.Close()
	<-s.lead // never given back: nobody reads any more
	if last := s.readAll(); !errors.Is(last, io.EOF) {
		err = last // what the daemon said, or did
	}
	s.fail(err)
	s.w.Idle()
	s.r.Close()
	// There is nothing to do about an error: the memory stays mapped.
	_ = s.ring.Unmap()
}

// patientWait is after what time a caller who reads has the end of its context told
// to it. Until then it looks by itself: that allocates nothing, and most answers
// come sooner.
const patientWait = time.Millisecond

// readFor reads answers, for all, until c is answered, or until some were read if c
// is nil, or ctx or the session ends. The caller has the token of s.lead, which is
// given back.
func (s *session) readFor(ctx context.Context, c *call) {
	defer func() { s.lead <- struct{}{} }()
	end := time.Time{}
	if ctx.Done() != nil {
		end = time.Now().Add(patientWait)
		if t, ok := ctx.Deadline(); ok && t.Before(end) {
			end = t
		}
	}
	s.ring.SetReadDeadline(end)
	for {
		err := s.takeAnswers()
		if err == nil && c != nil && len(c.done) > 0 {
			return
		}
		if err == nil {
			err = s.r.Fill()
		}
		switch {
		case err == nil && c == nil:
			if err = s.takeAnswers(); err == nil {
				return
			}
			s.fail(err)
			return
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			s.fail(err)
			return
		case ctx.Err() != nil:
			return
		default:
			s.ring.SetReadDeadline(time.Time{})
			stop := context.AfterFunc(ctx, func() { s.ring.SetReadDeadline(time.Unix(1, 0)) })
			defer stop()
		}
	}
}

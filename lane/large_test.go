package lane_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// script is a server that is told what to say.
type script struct {
	*net.UnixConn
	t       *testing.T
	unread  []byte
	hearing sync.Mutex // the race detector does not see that what one goroutine heard was said after another had
}

// scripted is a server and a client of it, which has the model that takes a row of two numbers and gives these outputs. Either type of
// socket will do.
func scripted(t *testing.T, network string, outputs []lanewire.Spec) (*script, *lane.Model) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &script{t: t}
	greeted := make(chan error, 1)
	go func() {
		var err error
		if s.UnixConn, err = l.AcceptUnix(); err == nil {
			err = s.greet(outputs)
		}
		greeted <- err
	}()
	c, err := lane.Dial(t.Context(), path, lane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	m, err := c.Model(t.Context(), "m")
	if err := errors.Join(err, <-greeted); err != nil {
		t.Fatal(err)
	}
	return s, m
}

func (s *script) greet(outputs []lanewire.Spec) error {
	inputs := []lanewire.Spec{{Name: "x", DType: tensor.FP32, Dims: []int64{-1, 2}}}
	signature, err := lanewire.AppendSignature(nil, inputs, outputs)
	if err != nil {
		return err
	}
	s.hear()
	welcome := lanewire.Welcome{Version: 1, MaxMessage: lanewire.MaxMessage, MaxPayload: 64 << 20, MaxOutstanding: 10, MaxModels: 10}
	s.say(frame(lanewire.Header{Kind: lanewire.KindWelcome}, welcome.Append(nil)))
	s.say(frame(lanewire.Header{Kind: lanewire.KindModel, ID: s.hear().ID, Handle: 1}, signature))
	return nil
}

// say writes b in messages of random sizes.
func (s *script) say(b []byte) {
	for len(b) > 0 {
		n := min(len(b), 1+rand.IntN(lanewire.MaxMessage))
		if _, err := s.Write(b[:n]); err != nil {
			s.t.Error(err)
			return
		}
		b = b[n:]
	}
}

// hear is the next frame's header.
func (s *script) hear() (h lanewire.Header) {
	s.hearing.Lock()
	defer s.hearing.Unlock()
	for {
		if len(s.unread) >= lanewire.HeaderSize {
			if err := h.Parse(s.unread); err != nil {
				s.t.Error(err)
				return h
			}
			if size := lanewire.HeaderSize + int(h.Payload); len(s.unread) >= size {
				s.unread = s.unread[size:]
				return h
			}
		}
		b := make([]byte, lanewire.MaxMessage)
		n, err := s.Read(b)
		if err != nil || n == 0 {
			s.t.Errorf("the client said nothing more: %v", err)
			return h
		}
		s.unread = append(s.unread, b[:n]...)
	}
}

// ofBytes is an output of so many bytes a row.
func ofBytes(name string, n int64) lanewire.Spec {
	return lanewire.Spec{Name: name, DType: tensor.Uint8, Dims: []int64{-1, n}}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// However a large answer is cut into messages, and wherever its outputs begin in them, they get their bytes and those of no other answer.
func TestLargeAnswers(t *testing.T) {
	for _, network := range []string{"unixpacket", "unix"} {
		s, m := scripted(t, network, []lanewire.Spec{ofBytes("a", 300_001), ofBytes("b", 7), ofBytes("none", 0), ofBytes("c", 65_536), ofBytes("d", 200_000)})
		for range 20 {
			want := randomBytes(300_001 + 7 + 65_536 + 200_000)
			said := make(chan struct{})
			go func() {
				h := s.hear()
				answer := frame(lanewire.Header{Kind: lanewire.KindResult, ID: h.ID, Rows: 1}, want)
				// Others before and behind it: an answer to nobody, small and large.
				nobody := lanewire.Header{Kind: lanewire.KindResult, ID: 1 << 40, Rows: 1}
				s.say(bytes.Join([][]byte{frame(nobody, randomBytes(100_000)), answer, frame(nobody, []byte{1}), frame(nobody, randomBytes(70_000))}, nil))
				close(said)
			}()
			outputs, err := m.Predict(t.Context(), 1, make([]byte, 8))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytes.Join(outputs, nil), want) {
				t.Fatalf("over %s an answer has other bytes than were sent", network)
			}
			<-said
		}
	}
}

// Who leaves in the middle of a large answer has its memory to itself, and the rest is dropped.
func TestLeavingInALargeAnswer(t *testing.T) {
	const size = 1 << 20
	for _, network := range []string{"unixpacket", "unix"} {
		s, m := scripted(t, network, []lanewire.Spec{ofBytes("a", size)})
		for _, sent := range []int{0, 10, 100_000, size - 1} {
			ctx, cancel := context.WithCancel(t.Context())
			out, left := make([]byte, size), make(chan error, 1)
			go func() { left <- m.PredictInto(ctx, 1, [][]byte{make([]byte, 8)}, [][]byte{out}) }()
			answer := frame(lanewire.Header{Kind: lanewire.KindResult, ID: s.hear().ID, Rows: 1}, bytes.Repeat([]byte{1}, size))
			s.say(answer[:lanewire.HeaderSize+sent])
			cancel()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Fatalf("who left was told %v", err)
			}
			clear(out)
			if h := s.hear(); h.Kind != lanewire.KindCancel {
				t.Fatalf("the client says %+v, want that the answer is not wanted", h)
			}
			s.say(answer[lanewire.HeaderSize+sent:])
			// The next answer comes behind all of that.
			go func() {
				s.say(frame(lanewire.Header{Kind: lanewire.KindResult, ID: s.hear().ID, Rows: 1}, bytes.Repeat([]byte{2}, size)))
			}()
			next, err := m.Predict(t.Context(), 1, make([]byte, 8))
			if err != nil || !bytes.Equal(next[0], bytes.Repeat([]byte{2}, size)) {
				t.Fatalf("after an answer that nobody waited for the next one fails: %v", err)
			}
			if !bytes.Equal(out, make([]byte, size)) {
				t.Fatalf("memory was written to whose owner had left after %d bytes", sent)
			}
		}
	}
}

// A large answer of another size than was asked for is refused as a small one is, and one whose request is made only while it comes is nobody's.
func TestLargeAnswersThatDoNotFit(t *testing.T) {
	const size = 200_000
	s, m := scripted(t, "unixpacket", []lanewire.Spec{ofBytes("a", size)})
	for _, c := range []struct {
		rows  uint32
		bytes int
	}{{1, size - 1}, {1, size + 1}, {2, size}, {1, 2 * size}} {
		go func() {
			s.say(frame(lanewire.Header{Kind: lanewire.KindResult, ID: s.hear().ID, Rows: c.rows}, make([]byte, c.bytes)))
		}()
		_, err := m.Predict(t.Context(), 1, make([]byte, 8))
		wantInternal(t, err)
	}
	// The ids count upwards in their upper half.
	go func() {
		s.say(frame(lanewire.Header{Kind: lanewire.KindResult, ID: s.hear().ID, Rows: 1}, make([]byte, size)))
	}()
	if _, err := m.Predict(t.Context(), 1, make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	const next = 7 << 32 // the opening was the first
	early := frame(lanewire.Header{Kind: lanewire.KindResult, ID: next, Rows: 1}, make([]byte, 4*size))
	s.say(early[:3*size])
	go func() {
		if h := s.hear(); h.ID != next {
			t.Errorf("the next request is %#x, want %#x", h.ID, next)
		}
		s.say(early[3*size:])
	}()
	_, err := m.Predict(t.Context(), 1, make([]byte, 8))
	wantInternal(t, err)
}

func wantInternal(t *testing.T, err error) {
	t.Helper()
	var said *lane.Error
	if !errors.As(err, &said) || said.Code != lane.Internal {
		t.Errorf("the client is told %v, want that the daemon is at fault", err)
	}
}

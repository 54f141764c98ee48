//go:build linux

package lanewire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/ring"
)

// outside is a Socket outside Go's poller, and its other end.
func outside(t *testing.T, kind int) (s *Socket, other *Socket) {
	t.Helper()
	to, from := pair(t, kind)
	s, err := NewSocket(from, ring.NewSpins(3))
	if err != nil {
		t.Fatal(err)
	}
	other = socket(t, to)
	r, w := NewReader(s), NewWriter(other, 10*time.Second, false)
	for end := time.Now().Add(30 * time.Second); s.file == nil; {
		if time.Now().After(end) {
			t.Fatal("a reader that waits for moments only stays in the poller")
		}
		for range 64 {
			s.unseen.Waited(0)
		}
		exchange(t, w, r, "again")
	}
	r.Close()
	return s, other
}

// exchange sends a payload and wants it to arrive.
func exchange(t *testing.T, w *Writer, r *Reader, payload string) {
	t.Helper()
	if err := errors.Join(w.Append(t.Context(), &Header{Kind: KindPredict}, []byte(payload)), w.Flush()); err != nil {
		t.Fatal(err)
	}
	want := HeaderSize + len(payload)
	for len(r.Buffered()) < want {
		if err := r.Fill(); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.Buffered()[HeaderSize:want]; string(got) != payload {
		t.Fatalf("%q arrived as %q", payload, got)
	}
	r.Consume(want)
}

// allPlaces wants both places of outside to be free again.
func allPlaces(t *testing.T, spins *ring.Spins) {
	t.Helper()
	taken := 0
	for end := time.Now().Add(30 * time.Second); taken < 2; time.Sleep(time.Millisecond) {
		if spins.TakePlace() { // not while goroutines wait for a processor
			taken++
		} else if time.Now().After(end) {
			t.Fatalf("only %d places of 2 are free", taken)
		}
	}
	for range taken {
		spins.GivePlace()
	}
}

// inPoller tells whether the Socket is there.
func (s *Socket) inPoller() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
}

// A Socket outside the poller brings what is sent, goes back when nothing comes, and gives its place back; and it can leave again.
func TestSocketComesBack(t *testing.T) {
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		s, other := outside(t, kind)
		r, w := NewReader(s), NewWriter(other, 10*time.Second, false)
		exchange(t, w, r, "outside")
		filled := make(chan error)
		go func() { filled <- r.Fill() }()
		for end := time.Now().Add(30 * time.Second); !s.inPoller(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a Socket to which nothing comes stays outside the poller")
			}
		}
		if _, err := other.conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-filled; err != nil || string(r.Buffered()) != "x" {
			t.Fatalf("back in the poller, %q comes, and %v", r.Buffered(), err)
		}
		r.Close()
		allPlaces(t, s.spins)
		if err := errors.Join(s.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	}
}

// However its reader waits outside the poller, looking, yielding, unseen or seen, what is asked arrives, and what is answered.
func TestConversationOutside(t *testing.T) {
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		s, other := outside(t, kind)
		const questions = 1000
		answered := make(chan error, 1)
		go func() {
			r, w := NewReader(s), NewWriter(s, 10*time.Second, false)
			defer r.Close()
			for range questions {
				for len(r.Buffered()) < HeaderSize+8 {
					if err := r.Fill(); err != nil {
						answered <- err
						return
					}
				}
				question := append([]byte(nil), r.Buffered()[HeaderSize:HeaderSize+8]...)
				r.Consume(HeaderSize + 8)
				if err := errors.Join(w.Append(t.Context(), &Header{Kind: KindResult}, question), w.Flush()); err != nil {
					answered <- err
					return
				}
			}
			answered <- nil
		}()
		r, w := NewReader(other), NewWriter(other, 10*time.Second, false)
		for i := range questions {
			if i%250 == 125 {
				time.Sleep(2 * ring.LongestUnseen)
			}
			exchange(t, w, r, fmt.Sprintf("%8d", i))
		}
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		r.Close()
		if err := errors.Join(s.Close(), other.Close()); err != nil {
			t.Error(err)
		}
		allPlaces(t, s.spins)
	}
}

// Whoever sends much at a time is waited for in the poller.
func TestSocketOfMuchComesBack(t *testing.T) {
	s, other := outside(t, unix.SOCK_SEQPACKET)
	r, w := NewReader(s), NewWriter(other, 10*time.Second, false)
	exchange(t, w, r, strings.Repeat("much", enough/4))
	exchange(t, w, r, "and little")
	if !s.inPoller() {
		t.Error("it is waited for outside")
	}
	r.Close()
	allPlaces(t, s.spins)
	if err := errors.Join(s.Close(), other.Close()); err != nil {
		t.Error(err)
	}
}

// Whoever reads outside the poller ends with the other side, at a deadline that is set meanwhile, and when the Socket is closed.
func TestReadingOutsideEnds(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(s, other *Socket) error
		want error
	}{
		"the other side": {func(_, other *Socket) error { return other.Close() }, io.EOF},
		"its writing":    {func(_, other *Socket) error { return other.CloseWrite() }, io.EOF},
		"a deadline":     {func(s, _ *Socket) error { return s.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"closing":        {func(s, _ *Socket) error { return s.Close() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, other := outside(t, unix.SOCK_SEQPACKET)
			filled := make(chan error)
			r := NewReader(s)
			go func() { filled <- r.Fill() }()
			time.Sleep(5 * time.Millisecond) // as a rule it waits by now; where it does not yet it must end all the same
			if err := c.do(s, other); err != nil {
				t.Fatal(err)
			}
			if err := <-filled; err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("reading ends with %v, want %v", err, c.want)
			}
			r.Close()
			if err := errors.Join(s.Close(), other.Close()); err != nil {
				t.Error(err)
			}
			allPlaces(t, s.spins)
		})
	}
}

// Whoever writes outside the poller waits for room no longer than allowed, and no longer than the Socket is open.
func TestWritingOutside(t *testing.T) {
	s, other := outside(t, unix.SOCK_STREAM)
	w := NewWriter(s, 50*time.Millisecond, false)
	fill := func() error {
		var err error
		for range 1000 {
			if err = errors.Join(w.Append(t.Context(), &Header{Kind: KindResult}, make([]byte, 32<<10)), w.Flush()); err != nil {
				break
			}
		}
		return err
	}
	if err := fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("writing to somebody who reads nothing ends with %v", err)
	}
	w = NewWriter(s, time.Minute, false)
	wrote := make(chan error)
	go func() { wrote <- fill() }()
	time.Sleep(5 * time.Millisecond)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err == nil {
		t.Error("writing to a closed socket goes on")
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

// Answers arrive whole and once, whoever writes them, while the reader of the same Socket leaves the poller and comes back again and again.
func TestWritersDoNotNoticeChanges(t *testing.T) {
	to, from := pair(t, unix.SOCK_STREAM)
	s, err := NewSocket(from, ring.NewSpins(3))
	if err != nil {
		t.Fatal(err)
	}
	other := socket(t, to)
	const writers, each = 4, 500
	w := NewWriter(s, 10*time.Second, false)
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range each {
				if err := errors.Join(w.Append(t.Context(), &Header{Kind: KindResult}, bytes.Repeat([]byte("y"), 1000)), w.Flush()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		r := NewReader(s)
		defer r.Close()
		for {
			if s.file == nil {
				for range 64 {
					s.unseen.Waited(0)
				}
			} else {
				s.enter()
			}
			if r.Fill() != nil {
				return
			}
			r.Consume(len(r.Buffered()))
		}
	}()
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		for {
			if _, err := other.conn.Write([]byte("z")); err != nil {
				return
			}
		}
	}()
	got, r := 0, NewReader(other)
	for want := writers * each * (HeaderSize + 1000); got < want; {
		if err := r.Fill(); err != nil {
			t.Fatal(err)
		}
		got += len(r.Buffered())
		r.Consume(len(r.Buffered()))
	}
	writing.Wait()
	r.Close()
	if err := errors.Join(other.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	<-reading
	<-asking
	allPlaces(t, s.spins)
}

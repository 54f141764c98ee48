package lanewire

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/ring"
)

// ends are a Writer and the Reader of what it writes.
func ends(t *testing.T, way string, background bool) (*Writer, *Reader) {
	t.Helper()
	kind := unix.SOCK_STREAM
	if way == "seqpacket" {
		kind = unix.SOCK_SEQPACKET
	}
	to, from := pair(t, kind)
	w := NewWriter(socket(t, to), 10*time.Second, background)
	r := NewReader(socket(t, from))
	spins := ring.NewSpins(3)
	w.Spin(spins)
	r.Spin(spins)
	if way == "ring" {
		theirs, fd, err := ring.New(spins)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := ring.Map(fd, spins)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		for _, side := range []*ring.Ring{theirs, ours} {
			t.Cleanup(func() {
				if err := side.Unmap(); err != nil {
					t.Error(err)
				}
			})
		}
		w.UseRing(ours)
		r.UseRing(theirs)
	}
	return w, r
}

// pattern is what byte i of a frame with that id is.
func pattern(id uint64, i int) byte { return byte(id*31 + uint64(i)*7>>3) }

// next reads a frame as a server does: a large one straight to where it is wanted. pause comes before the payload is read.
func next(r *Reader, pause time.Duration) (h Header, payload []byte, err error) {
	for len(r.Buffered()) < HeaderSize {
		if err := r.Fill(); err != nil {
			return h, nil, err
		}
	}
	if err := h.Parse(r.Buffered()); err != nil {
		return h, nil, err
	}
	r.Consume(HeaderSize)
	time.Sleep(pause)
	payload = make([]byte, h.Payload)
	for rest := payload; len(rest) > 0; {
		n := copy(rest, r.Buffered())
		r.Consume(n)
		switch {
		case n > 0:
		case len(rest) > MaxMessage:
			n, err = r.Read(rest)
		default:
			err = r.Fill()
		}
		if err != nil {
			return h, nil, err
		}
		rest = rest[n:]
	}
	return h, payload, nil
}

// Frames of any size come whole, whoever else writes, however long the other side takes, and although the memory that they were written from is
// changed as soon as the call returns. One whose context has ended either comes whole or not at all, as the caller was told.
func TestFramesComeWhole(t *testing.T) {
	const writers, each = 4, 15
	sizes := [][]int{{10}, {MaxMessage + 1}, {3, 300_000, 5}, {MaxMessage, MaxMessage, 1_000_000}, {0, 70_000, 0}, {maxPending, 100, maxPending}}
	for _, way := range []string{"seqpacket", "stream", "ring"} {
		for _, background := range []bool{true, false} {
			w, r := ends(t, way, background)
			var mu sync.Mutex
			told := make(map[uint64]int) // payloads that were taken, by id
			var all sync.WaitGroup
			for k := range writers {
				all.Go(func() {
					for i := range each {
						id := uint64(1 + k*each + i)
						var parts [][]byte
						size := 0
						for _, n := range sizes[id%uint64(len(sizes))] {
							p := make([]byte, n)
							for i := range p {
								p[i] = pattern(id, size+i)
							}
							parts, size = append(parts, p), size+n
						}
						ctx, cancel := context.WithCancel(t.Context())
						if id%3 == 0 {
							time.AfterFunc(time.Duration(id)*20*time.Microsecond, cancel)
						}
						err := w.Append(ctx, &Header{Kind: KindPredict, ID: id}, parts...)
						cancel()
						for _, p := range parts {
							clear(p)
						}
						switch {
						case err == nil:
							mu.Lock()
							told[id] = size
							mu.Unlock()
							err = w.Flush()
						case id%3 == 0 && errors.Is(err, context.Canceled):
							err = nil
						}
						if err != nil {
							t.Errorf("%s: writing frame %d: %v", way, id, err)
						}
					}
				})
			}
			go func() {
				all.Wait()
				// The last frame.
				if err := errors.Join(w.Append(t.Context(), &Header{Kind: KindGoodbye}), w.Flush()); err != nil {
					t.Error(err)
				}
			}()
			came := make(map[uint64]int)
			for n := 0; ; n++ {
				pause := time.Duration(0)
				if n%8 == 0 {
					pause = 3 * moment / 2
				}
				h, payload, err := next(r, pause)
				if err != nil {
					t.Fatalf("%s: frame %d: %v", way, n, err)
				}
				if h.Kind == KindGoodbye {
					break
				}
				came[h.ID] = len(payload)
				for i, b := range payload {
					if b != pattern(h.ID, i) {
						t.Fatalf("%s: byte %d of frame %d is not what was written", way, i, h.ID)
					}
				}
			}
			w.Idle()
			r.Close()
			mu.Lock()
			for id, size := range told {
				if got, is := came[id]; !is || got != size {
					t.Errorf("%s: frame %d of %d bytes came as %d", way, id, size, got)
				}
			}
			if len(came) != len(told) || len(came) < writers*each/2 {
				t.Errorf("%s: %d frames came, %d were taken", way, len(came), len(told))
			}
			mu.Unlock()
		}
	}
}

// A large frame whose rest does not come ends as a small one does.
func TestLargeFramesThatEnd(t *testing.T) {
	for name, c := range map[string]struct {
		way  string
		do   func(to *net.UnixConn, r *Reader) error
		want error
	}{
		"the end of a stream":    {"stream", func(to *net.UnixConn, _ *Reader) error { return to.Close() }, io.EOF},
		"the end of messages":    {"seqpacket", func(to *net.UnixConn, _ *Reader) error { return to.Close() }, io.EOF},
		"a deadline":             {"stream", func(_ *net.UnixConn, r *Reader) error { return r.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"a deadline of a ring":   {"ring", func(_ *net.UnixConn, r *Reader) error { return r.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"a message too large":    {"seqpacket", func(to *net.UnixConn, _ *Reader) error { _, err := to.Write(make([]byte, MaxMessage+1)); return err }, ErrMessage},
		"a ring that was closed": {"ring", func(_ *net.UnixConn, r *Reader) error { r.ring.Close(); return nil }, io.EOF},
	} {
		w, r := ends(t, c.way, true)
		if err := c.do(w.socket.conn, r); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(make([]byte, 3*MaxMessage)); n != 0 || !errors.Is(err, c.want) {
			t.Errorf("%s: %d bytes and %v, want %v", name, n, err, c.want)
		}
		r.Close()
	}
}

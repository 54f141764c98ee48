package lanewire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is two ends of a connection.
func pair(t *testing.T, kind int) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		t.Cleanup(func() { conn.Close() })
		ends[i] = conn.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// socket is one that never leaves Go's poller.
func socket(t *testing.T, conn *net.UnixConn) *Socket {
	t.Helper()
	s, err := NewSocket(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// However a stream of frames is cut, a Reader takes all of it: a few bytes first and a whole message behind them leave it with its buffer as full as it
// gets, of which a little or a lot may be consumed before the next message.
func TestReaderTakesAnyCut(t *testing.T) {
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		for first := range HeaderSize + 4 {
			for _, left := range []int{1, HeaderSize - 1, MaxMessage - 1, MaxMessage} {
				to, from := pair(t, kind)
				r := NewReader(socket(t, from))
				sent := make([]byte, first+2*MaxMessage)
				for i := range sent {
					sent[i] = byte(i * 7 >> 3)
				}
				var got []byte
				take := func(n int) {
					got = append(got, r.Buffered()[:n]...)
					r.Consume(n)
				}
				for _, part := range [][]byte{sent[:first], sent[first : first+MaxMessage], sent[first+MaxMessage:]} {
					if len(part) == 0 {
						continue
					}
					if _, err := to.Write(part); err != nil {
						t.Fatal(err)
					}
					// A stream may come in smaller parts than it was written in.
					for want := len(r.Buffered()) + len(part); len(r.Buffered()) < want; {
						if err := r.Fill(); err != nil {
							t.Fatal(err)
						}
						if n := len(r.Buffered()); n < want && n > MaxMessage {
							want -= n - 1
							take(n - 1)
						}
					}
					if n := len(r.Buffered()); n > left {
						take(n - left)
					}
				}
				take(len(r.Buffered()))
				if !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes, then messages, of which %d were left: other bytes came than were sent", first, left)
				}
				r.Close()
				to.Close()
				from.Close()
			}
		}
	}
}

// Messages that came meanwhile are taken together, and what is wrong behind them is told after them.
func TestReaderTakesWhatIsThere(t *testing.T) {
	message := bytes.Repeat([]byte{7}, 100)
	for name, c := range map[string]struct {
		last func(to *net.UnixConn) error
		want error
	}{
		"the end": {func(to *net.UnixConn) error { return to.CloseWrite() }, io.EOF},
		"a message that is too large": {func(to *net.UnixConn) error {
			_, err := to.Write(make([]byte, MaxMessage+1))
			return err
		}, ErrMessage},
	} {
		to, from := pair(t, unix.SOCK_SEQPACKET)
		r := NewReader(socket(t, from))
		write := func(messages int) {
			for range messages {
				if _, err := to.Write(message); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Until it tries it takes one at a time; one read of these is a try.
		write(2 * probe)
		got, most := 0, 0
		for got < 2*probe*len(message) {
			if err := r.Fill(); err != nil {
				t.Fatal(err)
			}
			n := len(r.Buffered())
			got, most = got+n, max(most, n)
			r.Consume(n)
		}
		if most <= len(message) {
			t.Errorf("%s: of %d messages none were taken together", name, 2*probe)
		}
		write(3)
		if err := c.last(to); err != nil {
			t.Fatal(err)
		}
		if err := r.Fill(); err != nil || len(r.Buffered()) != 3*len(message) {
			t.Errorf("%s: three messages came as %d bytes, and %v", name, len(r.Buffered()), err)
		}
		// Unconsumed, so that the error does not depend on it.
		if err := r.Fill(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v was reported, not %v", name, err, c.want)
		}
		if len(r.Buffered()) != 3*len(message) {
			t.Errorf("%s: what was read before is gone", name)
		}
		r.Close()
		to.Close()
		from.Close()
	}
}

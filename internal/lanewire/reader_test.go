package lanewire

import (
	"bytes"
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

// However a stream of frames is cut, a Reader takes all of it: a few bytes first and a whole message behind them leave it with its buffer as full as it
// gets, of which a little or a lot may be consumed before the next message.
func TestReaderTakesAnyCut(t *testing.T) {
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		for first := range HeaderSize + 4 {
			for _, left := range []int{1, HeaderSize - 1, MaxMessage - 1, MaxMessage} {
				to, from := pair(t, kind)
				r, err := NewReader(from)
				if err != nil {
					t.Fatal(err)
				}
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

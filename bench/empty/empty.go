// Package empty is a server of the lane that knows no model: what reading frames, answering them and being woken takes, which servers with a model are
// held against.
package empty

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/picket-ml/picket/internal/lanewire"
)

// Answer is the header of what a frame is answered with, but for the length of the payload, and the payload, which it keeps as it is until the next
// call. A header of no kind is no answer; false ends the connection. Any number of connections call it at a time.
type Answer func(h *lanewire.Header) (reply lanewire.Header, payload []byte, ok bool)

// Serve does the least that a server in Go can do, until the context ends: it reads what has come on a connection, answers all of it, and writes
// all answers at once. Clients must cut no frame.
func Serve(ctx context.Context, socket string, answer Answer) error {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() }) // which ends the loop below
	for {
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			go serve(conn, answer)
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			return fmt.Errorf("accepting: %w", err)
		}
	}
}

func serve(conn *net.UnixConn, answer Answer) {
	defer conn.Close()
	in, out := make([]byte, lanewire.MaxMessage), make([]byte, 0, lanewire.MaxMessage)
	var header [lanewire.HeaderSize]byte
	for {
		n, err := conn.Read(in)
		if err != nil || n == 0 {
			return
		}
		out = out[:0]
		var h lanewire.Header
		for b := in[:n]; len(b) >= lanewire.HeaderSize; b = b[lanewire.HeaderSize+int(h.Payload):] {
			if h.Parse(b) != nil || len(b) < lanewire.HeaderSize+int(h.Payload) {
				return
			}
			reply, payload, ok := answer(&h)
			if !ok {
				return
			}
			if reply.Kind == 0 {
				continue
			}
			reply.Payload = uint32(len(payload))
			reply.Put(header[:])
			out = append(append(out, header[:]...), payload...)
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/tensor"
)

// emptyServer as the first argument makes the program the empty server, on the socket that the second names.
const emptyServer = "empty-server"

// serveEmpty is the least that a server of the lane in Go can do: it reads what has come, answers 0 to all of it with one write, and knows no model. What it takes is what asking another process takes.
func serveEmpty(ctx context.Context, socket string) error {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() }) // which ends the loop below
	for {
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			go answerEmpty(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			return fmt.Errorf("accepting: %w", err)
		}
	}
}

// answerEmpty serves a connection whose client cuts no frame.
func answerEmpty(conn *net.UnixConn) {
	defer conn.Close()
	signature, err := lanewire.AppendSignature(nil,
		[]lanewire.Spec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, int64(features.Count)}}}, []lanewire.Spec{{Name: "output", DType: tensor.FP32, Dims: []int64{-1, 1}}})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	welcome := lanewire.Welcome{Version: lanewire.Version, MaxMessage: lanewire.MaxMessage, MaxPayload: 1 << 20, MaxOutstanding: 1024, MaxModels: 16}.Append(nil)
	noReasons := lanewire.Failure{Code: uint32(codes.InvalidArgument), Sentence: "there are no reasons"}.Append(nil)
	in, out := make([]byte, lanewire.MaxMessage), make([]byte, 0, lanewire.MaxMessage)
	zeros := make([]byte, lanewire.MaxMessage)
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
			reply := lanewire.Header{Kind: h.Kind + 1, ID: h.ID, Handle: 1, Rows: h.Rows}
			var payload []byte
			switch {
			case h.Kind == lanewire.KindHello:
				payload = welcome
			case h.Kind == lanewire.KindOpen:
				payload = signature
			case h.Kind != lanewire.KindPredict:
				continue // somebody has given up
			case h.Flags&lanewire.FlagExplain != 0:
				reply.Kind, payload = lanewire.KindError, noReasons
			case 4*int(h.Rows) <= len(zeros):
				payload = zeros[:4*h.Rows]
			default:
				return
			}
			reply.Payload = uint32(len(payload))
			out = append(out, make([]byte, lanewire.HeaderSize)...)
			reply.Put(out[len(out)-lanewire.HeaderSize:])
			out = append(out, payload...)
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

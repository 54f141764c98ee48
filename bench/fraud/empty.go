package main

import (
	"context"

	"google.golang.org/grpc/codes"

	server "github.com/picket-ml/picket/bench/empty"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/tensor"
)

// emptyServer as the first argument makes the program the empty server, on the socket that the second names.
const emptyServer = "empty-server"

// serveEmpty is the least that a server of the lane in Go can do: it answers 0 to whatever is asked, and knows no model. What it takes is what asking another process takes.
func serveEmpty(ctx context.Context, socket string) error {
	signature, err := lanewire.AppendSignature(nil,
		[]lanewire.Spec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, int64(features.Count)}}}, []lanewire.Spec{{Name: "output", DType: tensor.FP32, Dims: []int64{-1, 1}}})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	welcome := lanewire.Welcome{Version: lanewire.Version, MaxMessage: lanewire.MaxMessage, MaxPayload: 1 << 20, MaxOutstanding: 1024, MaxModels: 16}.Append(nil)
	noReasons := lanewire.Failure{Code: uint32(codes.InvalidArgument), Sentence: "there are no reasons"}.Append(nil)
	zeros := make([]byte, lanewire.MaxMessage)
	return server.Serve(ctx, socket, func(h *lanewire.Header) (reply lanewire.Header, payload []byte, ok bool) {
		reply = lanewire.Header{Kind: h.Kind + 1, ID: h.ID, Handle: 1, Rows: h.Rows}
		switch {
		case h.Kind == lanewire.KindHello:
			return reply, welcome, true
		case h.Kind == lanewire.KindOpen:
			return reply, signature, true
		case h.Kind != lanewire.KindPredict:
			return lanewire.Header{}, nil, true // somebody has given up
		case h.Flags&lanewire.FlagExplain != 0:
			reply.Kind = lanewire.KindError
			return reply, noReasons, true
		case 4*int(h.Rows) <= len(zeros):
			return reply, zeros[:4*h.Rows], true
		}
		return reply, nil, false
	})
}

package local

import (
	"context"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"github.com/picket-ml/picket/internal/server/failure"
)

// Patience is how long clients may take for what they send.
type Patience struct {
	// Transfer is what everything that is sent has, and Rate is how many bytes a second must come beyond that.
	Transfer time.Duration
	Rate     int64
}

// DefaultPatience is what clients have as a rule: 20 s, and 1 s for each 64 KiB.
var DefaultPatience = Patience{Transfer: 20 * time.Second, Rate: 64 << 10}

// For is how long n bytes may be on their way.
func (p Patience) For(n int64) time.Duration {
	return p.Transfer + time.Duration(float64(n)/float64(p.Rate)*float64(time.Second))
}

// What a gRPC call takes beside the bytes of its messages, in round numbers that are not too small: they bound how many calls,
// messages and frames there may be.
const (
	callBytes  = MaxHeaderBytes // its metadata, and the goroutine that answers it
	frameBytes = 128            // what holds the bytes of a frame
	// A compressed byte becomes at most so many: the limit of deflate's format.
	mostInflated = 1032
)

// Inflow bounds what the clients of a gRPC server send, and how long they may take for it. gRPC itself reads a message however slowly
// it comes, and all messages at a time however many there are. What arrives is visible on the connection as frames of HTTP/2, so each
// connection is watched: the bytes of a call count as in flight as they come, before gRPC has made room for them, until its handler is
// done with them. A call that goes beyond the budget, or whose message does not come, ends with a status, and the connection goes on; one
// that stops in the middle of a frame ends itself.
type Inflow struct {
	budget     *Budget
	maxMessage int64
	patience   Patience
	streams    map[string]bool // by full method: whether it takes a stream of messages, between which it may be idle
}

func newInflow(b *Budget, maxMessage int64, p Patience) *Inflow {
	return &Inflow{budget: b, maxMessage: maxMessage, patience: p, streams: make(map[string]bool)}
}

// guard is the service with handlers that give back what their calls took. It is for the time before the server serves.
func (f *Inflow) guard(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	guarded := *desc
	guarded.Methods, guarded.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i := range guarded.Methods {
		m := &guarded.Methods[i]
		f.streams["/"+desc.ServiceName+"/"+m.MethodName] = false
		handle := m.Handler
		m.Handler = func(srv any, ctx context.Context, receive func(any) error, with grpc.UnaryServerInterceptor) (any, error) {
			c := incomingOf(ctx)
			defer c.end()
			if err := c.start(ctx); err != nil {
				return nil, err
			}
			return handle(srv, ctx, receive, with)
		}
	}
	for i := range guarded.Streams {
		s := &guarded.Streams[i]
		f.streams["/"+desc.ServiceName+"/"+s.StreamName] = s.ClientStreams
		handle := s.Handler
		s.Handler = func(srv any, stream grpc.ServerStream) error {
			c := incomingOf(stream.Context())
			defer c.end()
			if err := c.start(stream.Context()); err != nil {
				return err
			}
			return handle(srv, &guardedStream{stream, c})
		}
	}
	return &guarded
}

// guardedStream gives back what a message took when the next one is asked for.
type guardedStream struct {
	grpc.ServerStream
	call *incoming
}

// RecvMsg implements grpc.ServerStream.
func (s *guardedStream) RecvMsg(m any) error {
	s.call.release()
	err := s.ServerStream.RecvMsg(m)
	s.call.received(err == nil)
	return err
}

// admit is gRPC's tap: it sees each call as its headers have come, on the goroutine that reads the connection.
func (f *Inflow) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	takesStream, known := f.streams[info.FullMethodName]
	w := watchedOf(ctx)
	if !known || w == nil {
		return ctx, nil // nothing of it will be read
	}
	if err := f.budget.Take(callBytes); err != nil {
		return ctx, failure.Status(failure.Code(err), err.Error(), failure.RetryAfter(err, 0))
	}
	c := &incoming{Context: ctx, watched: w, inflow: f, stream: takesStream, taken: callBytes}
	w.begin(c)
	return c, nil
}

// watch has the connection counted and timed.
func (f *Inflow) watch(c net.Conn) *watched {
	return &watched{Conn: c, inflow: f, prefaceLeft: len(preface), calls: make(map[uint32]*incoming)}
}

// watchedOf is the connection of a call.
func watchedOf(ctx context.Context) *watched {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(peerInfo); ok {
			return info.watched
		}
	}
	return nil
}

// errSlow is what a call is told whose message did not come in time.
var errSlow = failure.Status(codes.DeadlineExceeded, "the rest of the message did not come in time", 0)

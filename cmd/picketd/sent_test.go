package main

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"
)

// sentMarker tells when a call reached the connection: from then on the daemon
// has to answer it.
type sentMarker struct{}

type sentKey struct{}

// withSent is a context for one call, and where the time is kept (0: not sent).
func withSent(ctx context.Context) (context.Context, *atomic.Int64) {
	at := new(atomic.Int64)
	return context.WithValue(ctx, sentKey{}, at), at
}

func (sentMarker) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (sentMarker) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if at, ok := ctx.Value(sentKey{}).(*atomic.Int64); ok {
		if _, ok := s.(*stats.OutHeader); ok {
			at.Store(time.Now().UnixNano())
		}
	}
}

func (sentMarker) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentMarker) HandleConn(context.Context, stats.ConnStats)                       {}

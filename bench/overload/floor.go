package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/bench/empty"
	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/lanewire"
)

// floor is an empty server that refuses whatever it is asked: what reading, refusing and being woken takes in Go, without admission and without a
// model beside it.
type floor struct {
	process *versus.Process
	conns   []*load.Pipeline
}

// serveFloor is the server.
func serveFloor(ctx context.Context, socket string) error {
	refusal := lanewire.Failure{
		Code: uint32(codes.ResourceExhausted), Retry: 100 * time.Millisecond,
		Sentence: "predicting: busy: the answer would take 100.123ms and the deadline is in 99.123ms",
	}.Append(nil)
	return empty.Serve(ctx, socket, func(h *lanewire.Header) (lanewire.Header, []byte, bool) {
		switch h.Kind {
		case lanewire.KindHello:
			return lanewire.Header{Kind: lanewire.KindWelcome}, nil, true
		case lanewire.KindOpen:
			return lanewire.Header{Kind: lanewire.KindModel, Handle: 1}, nil, true
		default:
			return lanewire.Header{Kind: lanewire.KindError, ID: h.ID}, refusal, true
		}
	})
}

// startFloor starts one for requests like those of server. The caller stops it.
func (s *settings) startFloor(ctx context.Context, dir string, server *subject, random *rand.Rand) (*floor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	socket := filepath.Join(dir, "floor.sock")
	f := &floor{}
	if f.process, err = s.start(ctx, dir, self, "-refuse", socket); err != nil {
		return nil, err
	}
	for range s.clients {
		conn, err := load.ConnectPipeline(socket, server.model, server.rows, server.rowBytes, random)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.conns = append(f.conns, conn)
	}
	return f, nil
}

func (f *floor) stop() {
	for _, c := range f.conns {
		_ = c.Close() // everything was read
	}
	f.process.Stop()
}

// measure asks the floor for what arrived at a server from begin to end.
func (f *floor) measure(due []load.Arrivals, begin, end, deadline time.Duration) (o overload, err error) {
	o.Seconds = (end - begin).Seconds()
	same := make([]load.Arrivals, len(due))
	for i, arrivals := range due {
		for _, at := range arrivals {
			if at >= begin && at < end {
				same[i] = append(same[i], at-begin)
			}
		}
	}
	shares := during(f.process, 0, end-begin)
	requests, err := load.OpenLoop(f.conns, same, deadline)
	if err != nil {
		return o, err
	}
	if o.InOverload, err = shares(); err != nil {
		return o, err
	}
	o.count(requests, 0, end-begin, deadline)
	return o, nil
}

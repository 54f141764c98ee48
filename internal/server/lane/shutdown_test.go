package lane

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/lanewire"
	client "github.com/picket-ml/picket/lane"
)

// Shutdown says goodbye, answers what was read, and waits for nobody who is quiet.
func TestShutdown(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) { testShutdown(t, way) })
	}
}

func testShutdown(t *testing.T, busyWay string) {
	running, open := make(chan struct{}, 10), make(chan struct{})
	f := start(t, Options{}, enginetest.Script{OnRun: func(int) error { running <- struct{}{}; <-open; return nil }})
	for _, network := range networks {
		f.raw(t, network) // says nothing
	}
	for _, way := range ways {
		f.greeted(t, way) // asks for nothing
	}
	busy := f.greeted(t, busyWay)
	busy.send(predictFrame(1, 2, 5))
	<-running
	done := make(chan error, 1)
	go func() { done <- f.server.Shutdown(t.Context()) }()
	if h, _ := busy.receive(); h.Kind != lanewire.KindGoodbye {
		t.Fatalf("received %+v instead of a goodbye", h)
	}
	if _, err := client.Dial(t.Context(), f.path, client.Options{}); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("a new client: %v", err)
	}
	waitFor(t, "the quiet connections to be closed", func() bool { return connections(f.server) == 1 })
	select {
	case err := <-done:
		t.Errorf("the server ended with %v before its request did", err)
	default:
	}
	close(open)
	busy.wantSums(1, 2, 5)
	if err := <-done; err != nil {
		t.Error(err)
	}
	busy.wantHangUp()
}

// When the time is up, what is left is cut off.
func TestShutdownInNoTime(t *testing.T) {
	running, open := make(chan struct{}, 10), make(chan struct{})
	defer close(open)
	f := start(t, Options{}, enginetest.Script{OnRun: func(int) error { running <- struct{}{}; <-open; return nil }})
	cut := make(map[string]*rawConn)
	for _, way := range ways {
		cut[way] = f.greeted(t, way)
		cut[way].send(predictFrame(1, 2, 5))
	}
	<-running
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request was cut off, but: %v", err)
	}
	for _, c := range cut {
		c.wantHangUp()
	}
}

// Clients of the Go package under load lose nothing: what was asked before the
// goodbye is answered, what is asked later finds nobody.
func TestShutdownUnderLoad(t *testing.T) {
	for _, script := range []enginetest.Script{inline, {}} {
		f := start(t, Options{}, script)
		var answered atomic.Int64
		var clients sync.WaitGroup
		for i := range 4 {
			m := f.model(t, ways[i%3])
			for range 4 {
				clients.Go(func() {
					for {
						y, err := m.PredictFloat32(t.Context(), rowsFrom(3, 1))
						if errors.Is(err, client.ErrUnavailable) {
							return // nobody listens any more
						}
						if err != nil {
							t.Error(err)
							return
						}
						checkSums(t, y, 1, 3)
						answered.Add(1)
					}
				})
			}
		}
		waitFor(t, "some answers", func() bool { return answered.Load() > 1000 })
		if err := f.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		clients.Wait()
		if s := f.stats(t, "sum"); s.Rows != 3*uint64(answered.Load()) || s.Failed["canceled"] != 0 {
			t.Errorf("%d requests were answered, %d rows run; failed: %v", answered.Load(), s.Rows, s.Failed)
		}
	}
}

package lane

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/lanewire"
	client "github.com/picket-ml/picket/lane"
)

// manyRows are more than a message holds.
const manyRows = 16_000

// ownRuns is how many runs connections have made themselves.
func (f *fixture) ownRuns() (n uint64) {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	for c := range f.server.conns {
		c.mu.Lock()
		n += c.alone.turn
		c.mu.Unlock()
	}
	return n
}

// sendLarge sends what is larger than a message.
func (c *rawConn) sendLarge(b []byte) {
	c.t.Helper()
	for len(b) > 0 {
		n := min(len(b), lanewire.MaxMessage)
		c.send(b[:n])
		b = b[n:]
	}
}

// untilAlone asks until a connection has made a run itself: the engine may take the first ones, of which it knows little, for too long.
func (f *fixture) untilAlone(t *testing.T, way string, ask func()) {
	t.Helper()
	waitFor(t, "a connection to make a run itself over "+way, func() bool {
		ask()
		return f.ownRuns() > 0
	})
}

// A connection runs large requests that come one after the other itself.
func TestRunsAlone(t *testing.T) {
	for _, way := range ways {
		f := start(t, Options{}, enginetest.Script{Properties: engine.Properties{Anywhere: true}})
		m := f.model(t, way)
		f.untilAlone(t, way, func() {
			y, err := m.PredictFloat32(t.Context(), rowsFrom(manyRows, 1))
			if err != nil {
				t.Fatal(err)
			}
			checkSums(t, y, 1, manyRows)
		})
		before := f.ownRuns()
		if _, err := m.PredictFloat32(t.Context(), rowsFrom(2, 1)); err != nil {
			t.Fatal(err)
		}
		if f.ownRuns() != before {
			t.Errorf("over %s the connection has made a small run itself", way)
		}
	}
}

// While such a run lasts, the connection is read all the same: other requests are answered, and it can be cancelled.
func TestRelief(t *testing.T) {
	for _, way := range ways {
		running, open := make(chan struct{}, 1), make(chan struct{})
		f := start(t, Options{}, enginetest.Script{Properties: engine.Properties{Anywhere: true}, OnRun: func(rows int) error {
			if rows == manyRows {
				running <- struct{}{}
				<-open
			}
			return nil
		}})
		f.load(t, "other", engine.ModelOptions{})
		c := f.greeted(t, way)
		c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 8}, []byte("other")))
		c.receive()
		f.untilAlone(t, way, func() {
			c.sendLarge(predictFrame(1, manyRows-1, 10))
			c.wantSums(1, manyRows-1, 10)
		})
		for id := range uint64(3) {
			c.sendLarge(predictFrame(10*id+1, manyRows, 10))
			<-running
			b := predictFrame(10*id+2, 1, 20)
			binary.LittleEndian.PutUint32(b[16:], 2)
			c.send(b)
			c.wantSums(10*id+2, 1, 20)
			if id == 1 {
				c.send(frameOf(lanewire.Header{Kind: lanewire.KindCancel, ID: 11}, nil))
				c.wantError(11, client.Canceled)
			}
			open <- struct{}{}
			if id != 1 {
				c.wantSums(10*id+1, manyRows, 10)
			}
		}
	}
}

// Large requests of one client run at the same time where there are instances for it, though its connection may take the first for
// the only one.
func TestNotAlone(t *testing.T) {
	for _, way := range ways {
		both := make(chan struct{})
		f := start(t, Options{}, enginetest.Script{Properties: engine.Properties{Anywhere: true}, OnRun: func(rows int) error {
			if rows == manyRows {
				select { // whoever comes first waits for the other
				case both <- struct{}{}:
				case <-both:
				}
			}
			return nil
		}})
		f.load(t, "pair", engine.ModelOptions{Instances: 2, MaxBatchRows: 1})
		m, err := f.dial(t, way).Model(t.Context(), "pair")
		if err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for range 2 {
			callers.Go(func() {
				for range 10 {
					y, err := m.PredictFloat32(t.Context(), rowsFrom(manyRows, 5))
					if err != nil {
						t.Error(err)
						return
					}
					checkSums(t, y, 5, manyRows)
				}
			})
		}
		callers.Wait()
	}
}

// Whichever goroutine reads when, no request is lost and none answered twice.
func TestReliefAtAnyTime(t *testing.T) {
	for _, way := range ways {
		f := start(t, Options{}, enginetest.Script{Properties: engine.Properties{Anywhere: true}}, func(s *Server) { s.patience.alone = 50 * time.Microsecond })
		m := f.model(t, way)
		for i := range 100 {
			y, err := m.PredictFloat32(t.Context(), rowsFrom(manyRows/2, float32(i)))
			if err != nil {
				t.Fatal(err)
			}
			checkSums(t, y, float32(i), manyRows/2)
		}
	}
}

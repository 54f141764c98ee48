package engine_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// Each phase has what it is to have, in the time of testing/synctest.
func TestPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(engine.StartClock())
		const run, taking = 8 * time.Millisecond, 3 * time.Millisecond
		e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{OnRun: func(int) error { time.Sleep(run); return nil }}))
		load(t, e, "m", engine.ModelOptions{})
		var wg sync.WaitGroup
		ask := func() {
			wg.Go(func() {
				r := newRequest(t, e, "m", 1, 1)
				if err := r.Predict(t.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(taking) // as a codec that encodes
				r.Release()
			})
		}
		ask()
		time.Sleep(run / 2)
		ask()
		ask()
		wg.Wait()
		s := stats(t, e, "m")
		for _, p := range []struct {
			name  string
			is    engine.Histogram
			count uint64
			sum   time.Duration
		}{
			{"queue", s.Queue, 3, run}, // two waited half a run each
			{"gather", s.Gather, 1, 0}, // of two, in no time
			{"run", s.Run, 2, 2 * run},
			{"reply", s.Reply, 3, 3 * taking},
			{"total", s.Total, 3, run + 2*run*3/2},
		} {
			if p.is.Count != p.count || p.is.Sum != p.sum {
				t.Errorf("%s: %d of %v in all, want %d of %v", p.name, p.is.Count, p.is.Sum, p.count, p.sum)
			}
		}
	})
}

// A request that names no priority has its model's.
func TestPriorityOfTheModel(t *testing.T) {
	g := newGate()
	e := newEngine(t, engine.Options{Defaults: engine.ModelOptions{Priority: engine.High}}, enginetest.New(enginetest.Script{OnRun: func(rows int) error { return g.run(rows) }}))
	load(t, e, "high", engine.ModelOptions{MaxBatchRows: 1})
	load(t, e, "low", engine.ModelOptions{MaxBatchRows: 1, Priority: engine.Low})
	if got := e.List()[1].Options.Priority; got != engine.Low || got.String() != "low" {
		t.Errorf("the model is described with priority %v", got)
	}
	for model, first := range map[string]int{"high": 2, "low": 3} { // rows of the run that is first
		var wg sync.WaitGroup
		ask := func(rows int, p engine.Priority) {
			r := newRequest(t, e, model, rows, 1)
			r.Priority = p
			waiting := stats(t, e, model).WaitingRequests
			wg.Go(func() {
				defer r.Release()
				if err := r.Predict(t.Context()); err != nil {
					t.Error(err)
				}
			})
			if rows > 1 {
				eventually(t, "the request waits", func() bool { return stats(t, e, model).WaitingRequests == waiting+1 })
			}
		}
		ask(1, engine.Unnamed)
		<-g.entered
		ask(2, engine.Unnamed)
		ask(3, engine.Normal)
		g.open <- struct{}{}
		if rows := <-g.entered; rows != first {
			t.Errorf("%s: a run of %d rows is first, want %d", model, rows, first)
		}
		g.open <- struct{}{}
		<-g.entered
		g.open <- struct{}{}
		wg.Wait()
	}
}

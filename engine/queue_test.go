package engine_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// A client that means "for ever" says it as the longest time there is.
func TestDeadlinesInTheFarFuture(t *testing.T) {
	for name, p := range map[string]engine.Properties{"inline": inline, "queued": {}} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{Properties: p}))
			load(t, e, "m", engine.ModelOptions{})
			ctx, cancel := context.WithTimeout(t.Context(), math.MaxInt64)
			defer cancel()
			for what, at := range map[string]time.Time{
				"of the context":                        {},
				"of the request":                        time.Now().Add(math.MaxInt64),
				"beyond what a duration can be counted": time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
			} {
				r := newRequest(t, e, "m", 1, 1)
				r.Deadline = at
				if err := r.Predict(ctx); err != nil {
					t.Errorf("with a deadline %s: %v", what, err)
				}
				r.Release()
			}
		})
	}
}

// What a batch had no room for must not wait for that batch to end when another
// instance is idle.
func TestRestOfABatchGoesToAnIdleInstance(t *testing.T) {
	g := newGate()
	e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{OnRun: g.run}))
	load(t, e, "m", engine.ModelOptions{Instances: 2, MaxBatchRows: 8, BatchDelay: 300 * time.Millisecond})
	var wg sync.WaitGroup
	for _, rows := range []int{5, 6} {
		r := newRequest(t, e, "m", rows, float32(rows))
		wg.Go(func() {
			defer r.Release()
			if err := r.Predict(t.Context()); err != nil {
				t.Error(err)
				return
			}
			checkScores(t, r, float32(rows), 0)
		})
	}
	// Neither run ends before both have begun.
	eventually(t, "both instances run", func() bool { return len(g.entered) == 2 })
	close(g.open)
	wg.Wait()
}

// An idle instance does not wait for company until it is too late.
func TestBatchDelayLeavesRoomForTheDeadline(t *testing.T) {
	e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{}))
	load(t, e, "m", engine.ModelOptions{Instances: 1, BatchDelay: time.Minute})
	var wg sync.WaitGroup
	patient := newRequest(t, e, "m", 1, 1)
	wg.Go(func() {
		defer patient.Release()
		if err := patient.Predict(t.Context()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the instance waits for company", func() bool { return stats(t, e, "m").WaitingRequests == 1 })
	hurried := newRequest(t, e, "m", 1, 2)
	defer hurried.Release()
	hurried.Deadline = time.Now().Add(20 * time.Second)
	if err := hurried.Predict(t.Context()); err != nil {
		t.Errorf("a request with a deadline within the delay: %v", err)
	}
	wg.Wait() // the patient one went along
	if s := stats(t, e, "m"); s.Runs != 1 {
		t.Errorf("%d runs, want the two requests in one", s.Runs)
	}
}

// slowThenGated learns that a run takes 20 ms, whatever its rows, and is then
// busy with a first request until the gate is opened.
func slowThenGated(t *testing.T, g *gate, o engine.ModelOptions) (e *engine.Engine, submit func(engine.Priority), wait func()) {
	t.Helper()
	var learned atomic.Bool
	e = newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{OnRun: func(rows int) error {
		if !learned.Load() {
			time.Sleep(20 * time.Millisecond)
			return nil
		}
		return g.run(rows)
	}}))
	load(t, e, "m", o)
	predict(t, e, "m", 1, 1, 0)
	learned.Store(true)
	var wg sync.WaitGroup
	submit = func(p engine.Priority) {
		r := newRequest(t, e, "m", 1, 1)
		r.Priority = p
		wg.Go(func() {
			defer r.Release()
			if err := r.Predict(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	submit(engine.Normal)
	<-g.entered
	return e, submit, wg.Wait
}

// The estimate at admission counts neither what is behind a request nor the same
// run once for each of the requests that will share it.
func TestAdmissionErrsOnTheSideOfAdmitting(t *testing.T) {
	for _, c := range []struct {
		name    string
		o       engine.ModelOptions
		waiting engine.Priority
		mine    engine.Priority
	}{
		{"a batch costs one run", engine.ModelOptions{Instances: 1, MaxBatchRows: 64}, engine.Normal, engine.Normal},
		{"lower priorities are behind", engine.ModelOptions{Instances: 1, MaxBatchRows: 1}, engine.Low, engine.High},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGate()
			e, submit, wait := slowThenGated(t, g, c.o)
			for range 50 { // a second's worth of single runs
				submit(c.waiting)
			}
			eventually(t, "50 wait", func() bool { return stats(t, e, "m").WaitingRequests == 50 })
			r := newRequest(t, e, "m", 1, 1)
			r.Priority, r.Deadline = c.mine, time.Now().Add(500*time.Millisecond)
			answer := make(chan error, 1)
			go func() { answer <- r.Predict(t.Context()) }()
			eventually(t, "the request is admitted or refused", func() bool {
				s := stats(t, e, "m")
				return s.WaitingRequests == 51 || s.Requests > 1
			})
			close(g.open)
			// On a slow machine its deadline may pass all the same.
			if err := <-answer; errors.Is(err, engine.ErrBusy) {
				t.Errorf("refused, though it would be answered in time: %v", err)
			}
			r.Release()
			wait()
		})
	}
}

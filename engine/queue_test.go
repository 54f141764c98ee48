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
	"github.com/picket-ml/picket/tensor"
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
		rows    int
	}{
		{"a batch costs one run", engine.ModelOptions{Instances: 1, MaxBatchRows: 64}, engine.Unnamed, engine.Normal, 1},
		{"lower priorities are behind", engine.ModelOptions{Instances: 1, MaxBatchRows: 1}, engine.Low, engine.High, 1},
		{"a large request costs one run", engine.ModelOptions{Instances: 1, MaxBatchRows: 64}, engine.Unnamed, engine.Normal, 10_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGate()
			e, submit, wait := slowThenGated(t, g, c.o)
			for range 50 { // a second's worth of single runs
				submit(c.waiting)
			}
			eventually(t, "50 wait", func() bool { return stats(t, e, "m").WaitingRequests == 50 })
			r := newRequest(t, e, "m", c.rows, 1)
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

// Requests of several inputs and outputs of different widths are put together
// and taken apart, whole and in parts.
func TestBatchesOfSeveralTensors(t *testing.T) {
	spec := func(name string, width int64) engine.TensorSpec {
		return engine.TensorSpec{Name: name, DType: tensor.FP32, Dims: []int64{engine.Variable, width}}
	}
	signature := &engine.Signature{
		Inputs:  []engine.TensorSpec{spec("a", 3), spec("b", 1), spec("c", 5)},
		Outputs: []engine.TensorSpec{spec("x", 2), spec("y", 1), spec("z", 7)},
	}
	for name, maxRows := range map[string]int{"whole": 0, "in parts": 4} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{
				Signature: signature, Properties: engine.Properties{MaxRows: maxRows}, OnRun: g.run}))
			load(t, e, "m", engine.ModelOptions{Instances: 1})
			var wg sync.WaitGroup
			for n := range 6 {
				rows := n + 1
				r := newRequest(t, e, "m", rows, 1)
				for i, in := range r.Inputs {
					values, err := tensor.View[float32](in)
					if err != nil {
						t.Fatal(err)
					}
					for k := range values { // differs by request, input, row and column
						values[k] = float32(100*n + 10*i + k)
					}
				}
				wg.Go(func() {
					defer r.Release()
					if err := r.Predict(t.Context()); err != nil {
						t.Error(err)
						return
					}
					checkSeveral(t, r)
				})
				if n == 0 {
					<-g.entered
				}
			}
			eventually(t, "five wait", func() bool { return stats(t, e, "m").WaitingRequests == 5 })
			close(g.open)
			wg.Wait()
			want := uint64(2) // the first, and all others together
			if maxRows > 0 {
				want = 6 // of 1 to 6 rows, no two of those that waited fit 4
			}
			if s := stats(t, e, "m"); s.Runs != want || s.RunRows != 21 {
				t.Errorf("%d runs of %d rows, want %d of 21", s.Runs, s.RunRows, want)
			}
		})
	}
}

// checkSeveral compares the outputs with what the fake computes of the inputs.
func checkSeveral(t *testing.T, r *engine.Request) {
	t.Helper()
	for row := range r.Rows {
		sum := float32(0)
		for i, in := range r.Inputs {
			values, err := tensor.View[float32](in.Rows(row, row+1))
			if err != nil {
				t.Error(err)
			}
			for _, v := range values {
				sum += float32(i+1) * v
			}
		}
		for o, out := range r.Outputs {
			values, err := tensor.View[float32](out.Rows(row, row+1))
			if err != nil {
				t.Error(err)
			}
			for j, got := range values {
				if want := sum + 1000*float32(o) + float32(j); got != want {
					t.Errorf("request of %d rows: output %d, row %d, value %d is %v, want %v", r.Rows, o, row, j, got, want)
				}
			}
		}
	}
}

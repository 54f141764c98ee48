package engine_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// checkTiming wants the parts of a request that was run to be all of it.
func checkTiming(t *testing.T, what string, m engine.Timing, before time.Time) {
	t.Helper()
	if m.Queue < 0 || m.Run <= 0 || m.Reply < 0 || m.Queue+m.Run+m.Reply != m.Total {
		t.Errorf("%s: queue %v, run %v and reply %v do not make the total of %v", what, m.Queue, m.Run, m.Reply, m.Total)
	}
	if end := m.Arrived.Add(m.Total); m.Arrived.Before(before) || end.After(time.Now()) {
		t.Errorf("%s: from %v to %v is not within the call", what, m.Arrived, end)
	}
}

func TestTiming(t *testing.T) {
	g := newGate()
	b := enginetest.New(enginetest.Script{OnRun: g.run})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 1, MaxBatchRows: 20})
	before := time.Now()
	timings := make([]engine.Timing, 4)
	var wg sync.WaitGroup
	submit := func(i, rows int) {
		r := newRequest(t, e, "m", rows, 1)
		r.Count = rows // as if each row were a request of its own
		if i > 0 {
			r.Timing = &timings[i]
		}
		wg.Go(func() {
			defer r.Release()
			if err := r.Predict(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	// One that nobody asks about keeps the instance busy while three wait.
	submit(0, 1)
	<-g.entered
	for i := 1; i < 4; i++ {
		submit(i, i)
		eventually(t, "the request waits", func() bool { return stats(t, e, "m").WaitingRequests == i })
	}
	close(g.open)
	wg.Wait()
	for i, m := range timings[1:] {
		checkTiming(t, "in a batch", m, before)
		if m.BatchRows != 6 || m.BatchRequests != 6 || m.Inline || m.Left != engine.Stayed || m.Queue == 0 {
			t.Errorf("request %d: %+v, want a batch of 6 rows of 6 requests that waited", i+1, m)
		}
	}
	if timings[0] != (engine.Timing{}) {
		t.Errorf("a request that was not asked about has %+v", timings[0])
	}
}

func TestTimingInline(t *testing.T) {
	e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{Properties: inline}))
	load(t, e, "m", engine.ModelOptions{})
	before := time.Now()
	var m engine.Timing
	for range 2 {
		r := newRequest(t, e, "m", 3, 1)
		r.Timing = &m
		if err := r.Predict(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Release()
		checkTiming(t, "inline", m, before)
		if m.BatchRows != 3 || m.BatchRequests != 1 || !m.Inline {
			t.Errorf("got %+v, want one request of 3 rows, inline", m)
		}
	}
	// The Request may be the same; the Timing is not.
	m = engine.Timing{}
	r := newRequest(t, e, "m", 1, 1)
	defer r.Release()
	if err := r.Predict(t.Context()); err != nil || m != (engine.Timing{}) {
		t.Errorf("a request without a Timing has filled in that of an earlier one: %+v, %v", m, err)
	}
}

// A failed batch is run one by one, and each request has the run that answered it.
func TestTimingOfAFailure(t *testing.T) {
	guilty := errors.New("too much")
	b := enginetest.New(enginetest.Script{Properties: inline, OnRun: func(int) error { return guilty }})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{})
	before := time.Now()
	var m engine.Timing
	r := newRequest(t, e, "m", 1, 1)
	defer r.Release()
	r.Timing = &m
	if err := r.Predict(t.Context()); !errors.Is(err, guilty) {
		t.Fatal(err)
	}
	checkTiming(t, "that failed", m, before)
	if got := engine.Outcome(guilty); got != "other" {
		t.Errorf("an error of no kind counts as %s", got)
	}
}

// A caller that gives up is told of what, and nothing of a run that it did not see
// the end of.
func TestTimingOfWhoLeaves(t *testing.T) {
	g := newGate()
	e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{OnRun: g.run}))
	load(t, e, "m", engine.ModelOptions{Instances: 1})
	for _, want := range []engine.Left{engine.LeftRunning, engine.LeftWaiting} {
		var m engine.Timing
		r := newRequest(t, e, "m", 1, 1)
		r.Timing = &m
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.Predict(ctx); !errors.Is(err, engine.ErrCanceled) {
				t.Errorf("got %v, want canceled", err)
			}
		})
		if want == engine.LeftRunning {
			<-g.entered
		} else {
			eventually(t, "the request waits", func() bool { return stats(t, e, "m").WaitingRequests == 1 })
		}
		cancel()
		wg.Wait()
		r.Release()
		if m.Left != want || m.Total <= 0 || m.Run != 0 || m.BatchRows != 0 {
			t.Errorf("got %+v, want it to have left while %v", m, want)
		}
	}
	close(g.open)
}

// changes is an Observer that keeps what it is told.
type changes struct {
	mu  sync.Mutex
	all []string
}

func (c *changes) Changing(_ context.Context, what engine.Change) func(engine.Description, error) {
	return func(d engine.Description, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all = append(c.all, what.Kind.String()+" "+what.Model+" "+what.URL+" "+d.Backend+" "+engine.Outcome(err))
	}
}

func TestObserver(t *testing.T) {
	c := &changes{}
	e := newEngine(t, engine.Options{Observer: c}, enginetest.New(enginetest.Script{}))
	load(t, e, "m", engine.ModelOptions{})
	if _, err := e.Load(t.Context(), "m", "elsewhere", engine.ModelOptions{}); !errors.Is(err, engine.ErrExists) {
		t.Errorf("got %v", err)
	}
	if _, err := e.Replace(t.Context(), "m", "elsewhere", engine.ModelOptions{}); err != nil {
		t.Error(err)
	}
	if err := e.Unload(t.Context(), "m"); err != nil {
		t.Error(err)
	}
	want := []string{"load m somewhere fake ok", "load m elsewhere  other", "replace m elsewhere fake ok", "unload m   ok"}
	if !slices.Equal(c.all, want) {
		t.Errorf("told %q, want %q", c.all, want)
	}
}

// A request that is measured costs no allocation either, but for its Timing.
func TestTimingDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	for name, p := range map[string]engine.Properties{"inline": inline, "queued": {}} {
		e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{Properties: p}))
		load(t, e, "m", engine.ModelOptions{})
		m := new(engine.Timing)
		ctx := t.Context()
		once := func() {
			r := newRequest(t, e, "m", 1, 1)
			r.Timing = m
			if err := r.Predict(ctx); err != nil {
				t.Fatal(err)
			}
			r.Release()
		}
		for range 100 {
			once()
		}
		if n := testing.AllocsPerRun(1000, once); n != 0 {
			t.Errorf("%s: %v allocations a request", name, n)
		}
	}
}

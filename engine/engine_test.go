package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

var inline = engine.Properties{Inline: true}

// newEngine makes an engine over the backends and closes it with the test,
// checking that everything was given back and the contract kept.
func newEngine(t testing.TB, o engine.Options, backends ...*enginetest.Backend) *engine.Engine {
	t.Helper()
	if o.Host == nil {
		o.Host = &hw.Host{CPU: hw.CPU{CoresAllowed: 2}}
	}
	if o.Source == nil {
		o.Source = enginetest.Source{Dir: t.TempDir()}
	}
	for _, b := range backends {
		o.Backends = append(o.Backends, b)
	}
	e, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, b := range backends {
			if models, instances := b.Live(); models != 0 || instances != 0 {
				t.Errorf("backend %s: %d models and %d instances are still open", b.Name(), models, instances)
			}
			for _, v := range b.Violations() {
				t.Errorf("backend %s: %s", b.Name(), v)
			}
		}
	})
	return e
}

func load(t testing.TB, e *engine.Engine, name string, o engine.ModelOptions) {
	t.Helper()
	if _, err := e.Load(t.Context(), name, "somewhere", o); err != nil {
		t.Fatal(err)
	}
}

// newRequest makes a request whose rows start with first, first+1, and so on.
func newRequest(t testing.TB, e *engine.Engine, name string, rows int, first float32) *engine.Request {
	t.Helper()
	m, err := e.Acquire(name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	r, err := m.NewRequest(rows)
	if err != nil {
		t.Fatal(err)
	}
	fillRows(t, r, first)
	return r
}

func fillRows(t testing.TB, r *engine.Request, first float32) {
	x, err := tensor.View[float32](r.Inputs[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range x {
		x[i] = 0
		if i%enginetest.Columns == 0 {
			x[i] = first + float32(i/enginetest.Columns)
		}
	}
}

// scores are the answers, which must be first+bias, first+1+bias, and so on.
func checkScores(t testing.TB, r *engine.Request, first, bias float32) {
	t.Helper()
	y, err := tensor.View[float32](r.Outputs[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(y) != r.Rows {
		t.Fatalf("got %d answers for %d rows", len(y), r.Rows)
	}
	for i, v := range y {
		if want := first + float32(i) + bias; v != want {
			t.Fatalf("row %d of %d: got %v, want %v", i, len(y), v, want)
		}
	}
}

func predict(t testing.TB, e *engine.Engine, name string, rows int, first, bias float32) {
	t.Helper()
	r := newRequest(t, e, name, rows, first)
	defer r.Release()
	if err := r.Predict(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkScores(t, r, first, bias)
}

func stats(t testing.TB, e *engine.Engine, name string) engine.Stats {
	t.Helper()
	m, err := e.Acquire(name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	return m.Stats()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// gate makes runs wait until it is opened, and tells their sizes.
type gate struct {
	entered chan int
	open    chan struct{}
}

func newGate() *gate { return &gate{make(chan int, 1000), make(chan struct{})} }

func (g *gate) run(rows int) error {
	g.entered <- rows
	<-g.open
	return nil
}

// crowd asks the model "m" for one row, n times: the first is in the gate when it returns, and the others wait. answered waits for all
// of them, which must be answered once the gate is open.
func (g *gate) crowd(t *testing.T, e *engine.Engine, n int) (answered func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		r := newRequest(t, e, "m", 1, 1)
		wg.Go(func() {
			defer r.Release()
			if err := r.Predict(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			<-g.entered
		}
	}
	eventually(t, "the others wait", func() bool { return stats(t, e, "m").WaitingRequests == n-1 })
	return wg.Wait
}

func TestPredict(t *testing.T) {
	for name, p := range map[string]engine.Properties{"inline": inline, "queued": {}, "in parts": {MaxRows: 7}, "inline in parts": {Inline: true, MaxRows: 7}} {
		t.Run(name, func(t *testing.T) {
			b := enginetest.New(enginetest.Script{Properties: p, Bias: 0.25})
			e := newEngine(t, engine.Options{}, b)
			load(t, e, "m", engine.ModelOptions{})
			for _, rows := range []int{1, 2, 7, 8, 63, 64, 65, 1000} {
				predict(t, e, "m", rows, float32(rows), 0.25)
			}
			s := stats(t, e, "m")
			if s.Requests != 8 || s.Rows != 1210 || s.Total.Count != 8 || s.Run.Count != 8 {
				t.Errorf("stats count %d requests, %d rows, %d totals, %d runs", s.Requests, s.Rows, s.Total.Count, s.Run.Count)
			}
			if want := map[bool]uint64{true: 8}[p.Inline]; s.InlineRuns != want {
				t.Errorf("%d runs were inline, want %d", s.InlineRuns, want)
			}
		})
	}
}

func TestRequestsThatWaitBecomeOneBatch(t *testing.T) {
	g := newGate()
	b := enginetest.New(enginetest.Script{OnRun: g.run})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 1, MaxBatchRows: 20})
	var wg sync.WaitGroup
	submit := func(rows int, first float32) {
		r := newRequest(t, e, "m", rows, first)
		wg.Go(func() {
			defer r.Release()
			if err := r.Predict(t.Context()); err != nil {
				t.Error(err)
				return
			}
			checkScores(t, r, first, 0)
		})
	}
	submit(1, 10)
	if rows := <-g.entered; rows != 1 {
		t.Fatalf("an idle instance took %d rows", rows)
	}
	// While it is busy: 5 requests of 6 rows, of which 3 fit 20 rows, and one
	// that is larger than any batch.
	for i := range 5 {
		submit(6, float32(100*i))
		eventually(t, "the request waits", func() bool { return stats(t, e, "m").WaitingRequests == i+1 })
	}
	submit(50, 1000)
	eventually(t, "the large request waits", func() bool { return stats(t, e, "m").WaitingRows == 80 })
	close(g.open)
	wg.Wait()
	for _, want := range []int{18, 12, 50} {
		if rows := <-g.entered; rows != want {
			t.Errorf("a run of %d rows, want %d", rows, want)
		}
	}
	if s := stats(t, e, "m"); s.Runs != 4 || s.Requests != 7 || s.Queue.Count != 7 {
		t.Errorf("%d runs for %d requests, %d of them queued; want 4, 7, 7", s.Runs, s.Requests, s.Queue.Count)
	}
}

func TestPriorities(t *testing.T) {
	g := newGate()
	var order []float32
	var mu sync.Mutex
	b := enginetest.New(enginetest.Script{OnRun: g.run})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 1, MaxBatchRows: 1})
	var wg sync.WaitGroup
	for i, p := range []engine.Priority{engine.Normal, engine.Low, engine.Normal, engine.High, engine.High} {
		r := newRequest(t, e, "m", 1, float32(i+1))
		r.Priority = p
		wg.Go(func() {
			defer r.Release()
			if err := r.Predict(t.Context()); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, float32(i+1))
		})
		if i == 0 {
			<-g.entered
		} else {
			eventually(t, "the request waits", func() bool { return stats(t, e, "m").WaitingRequests == i })
		}
	}
	// One run at a time is let go, so that the order of answers is the order
	// of runs.
	for i := range 5 {
		g.open <- struct{}{}
		eventually(t, "an answer", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == i+1 })
	}
	wg.Wait()
	if got := fmt.Sprint(order); got != "[1 4 5 3 2]" {
		t.Errorf("answered in the order %s", got)
	}
}

func TestDeadlinesAndCancellation(t *testing.T) {
	for name, give := range map[string]func(context.Context, *engine.Request) (context.Context, context.CancelFunc){
		"of the context": func(ctx context.Context, _ *engine.Request) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 10*time.Millisecond)
		},
		"of the request": func(ctx context.Context, r *engine.Request) (context.Context, context.CancelFunc) {
			r.Deadline = time.Now().Add(10 * time.Millisecond)
			return ctx, func() {}
		},
		"of the model": func(ctx context.Context, _ *engine.Request) (context.Context, context.CancelFunc) {
			return ctx, func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			b := enginetest.New(enginetest.Script{OnRun: g.run})
			e := newEngine(t, engine.Options{}, b)
			load(t, e, "m", engine.ModelOptions{Instances: 1, Timeout: 10 * time.Millisecond})
			// The first is running, and the instance stuck; the second waits.
			for i := range 2 {
				r := newRequest(t, e, "m", 1, 1)
				ctx, cancel := give(t.Context(), r)
				if err := r.Predict(ctx); !errors.Is(err, engine.ErrDeadline) {
					t.Errorf("request %d: got %v, want a deadline", i, err)
				}
				cancel()
				r.Release()
			}
			s := stats(t, e, "m")
			if s.WaitingRequests != 0 || s.Failed["deadline"] != 2 || s.Requests != 2 {
				t.Errorf("%d requests wait, %d of %d missed their deadline", s.WaitingRequests, s.Failed["deadline"], s.Requests)
			}
			close(g.open)
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		g := newGate()
		b := enginetest.New(enginetest.Script{OnRun: g.run})
		e := newEngine(t, engine.Options{}, b)
		load(t, e, "m", engine.ModelOptions{Instances: 1})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 3 {
			r := newRequest(t, e, "m", 1, 1)
			wg.Go(func() {
				defer r.Release()
				if err := r.Predict(ctx); !errors.Is(err, engine.ErrCanceled) {
					t.Errorf("got %v, want canceled", err)
				}
			})
			if i == 0 {
				<-g.entered
			}
		}
		eventually(t, "two requests wait", func() bool { return stats(t, e, "m").WaitingRequests == 2 })
		cancel()
		wg.Wait()
		if s := stats(t, e, "m"); s.WaitingRequests != 0 || s.WaitingRows != 0 {
			t.Errorf("%d requests of %d rows still wait", s.WaitingRequests, s.WaitingRows)
		}
		r := newRequest(t, e, "m", 1, 1)
		defer r.Release()
		if err := r.Predict(ctx); !errors.Is(err, engine.ErrCanceled) {
			t.Errorf("with a context that had ended: got %v", err)
		}
		close(g.open)
	})
}

// A caller that gave up must not get its memory recycled under the instance
// that still reads it.
func TestAbandonedRequestKeepsItsMemory(t *testing.T) {
	g := newGate()
	b := enginetest.New(enginetest.Script{OnRun: g.run})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 1})
	before := tensor.MemoryUsage().Live
	r := newRequest(t, e, "m", 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-g.entered; cancel() }()
	if err := r.Predict(ctx); !errors.Is(err, engine.ErrCanceled) {
		t.Fatalf("got %v", err)
	}
	r.Release()
	if live := tensor.MemoryUsage().Live - before; live != 2 {
		t.Errorf("%d buffers are kept for the run, want its input and its output", live)
	}
	close(g.open)
	eventually(t, "the buffers come back", func() bool { return tensor.MemoryUsage().Live == before })
}

// Whoever is woken first wakes the others of a batch, whoever has left meanwhile.
func TestCallersOfABatchLeave(t *testing.T) {
	entered, leave := make(chan int), make(chan struct{})
	b := enginetest.New(enginetest.Script{OnRun: func(rows int) error { entered <- rows; <-leave; return nil }})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 1})
	const batch = 4
	live := int64(0) // with the instance's memory for batches, which the first one makes
	for _, leavers := range [][]int{{}, {0}, {3}, {1, 2}, {0, 1, 2}, {0, 1, 2, 3}} {
		ends := make([]chan error, 1+batch)
		requests, cancels := make([]*engine.Request, 1+batch), make([]context.CancelFunc, 1+batch)
		for i := range requests {
			requests[i], ends[i] = newRequest(t, e, "m", 1, float32(i)), make(chan error, 1)
			var ctx context.Context
			ctx, cancels[i] = context.WithCancel(t.Context())
			defer cancels[i]()
			go func() { ends[i] <- requests[i].Predict(ctx) }()
			if i == 0 { // which the batch waits for
				<-entered
				continue
			}
			eventually(t, "it waits", func() bool { return stats(t, e, "m").WaitingRequests == i })
		}
		leave <- struct{}{}
		if rows := <-entered; rows != batch {
			t.Fatalf("the batch has %d rows, want %d", rows, batch)
		}
		for _, i := range leavers {
			cancels[1+i]()
			if err := <-ends[1+i]; !errors.Is(err, engine.ErrCanceled) {
				t.Errorf("who leaves gets %v, want canceled", err)
			}
		}
		leave <- struct{}{}
		for i, r := range requests {
			if i == 0 || !slices.Contains(leavers, i-1) {
				if err := <-ends[i]; err != nil {
					t.Errorf("with %v leaving, request %d of the batch: %v", leavers, i-1, err)
				} else {
					checkScores(t, r, float32(i), 0)
				}
			}
			r.Release()
		}
		if live == 0 {
			live = tensor.MemoryUsage().Live
		}
		eventually(t, "the buffers come back", func() bool { return tensor.MemoryUsage().Live == live })
	}
}

func TestAdmission(t *testing.T) {
	t.Run("full queue", func(t *testing.T) {
		g := newGate()
		b := enginetest.New(enginetest.Script{OnRun: g.run})
		e := newEngine(t, engine.Options{}, b)
		load(t, e, "m", engine.ModelOptions{Instances: 1, MaxQueue: 3})
		answered := g.crowd(t, e, 4)
		r := newRequest(t, e, "m", 1, 1)
		if err := r.Predict(t.Context()); !errors.Is(err, engine.ErrBusy) {
			t.Errorf("got %v, want busy", err)
		}
		r.Release()
		close(g.open)
		answered()
		predict(t, e, "m", 1, 5, 0)
	})
	t.Run("deadline that cannot be met", func(t *testing.T) {
		g := newGate()
		slow := atomic.Bool{}
		slow.Store(true)
		b := enginetest.New(enginetest.Script{OnRun: func(rows int) error {
			if slow.Load() {
				time.Sleep(20 * time.Millisecond) // what the engine is to learn
				return nil
			}
			return g.run(rows)
		}})
		e := newEngine(t, engine.Options{}, b)
		load(t, e, "m", engine.ModelOptions{Instances: 1, MaxBatchRows: 1})
		predict(t, e, "m", 1, 1, 0)
		// observed when the instance asks for more
		slow.Store(false)
		answered := g.crowd(t, e, 5)
		r := newRequest(t, e, "m", 1, 1)
		r.Deadline = time.Now().Add(50 * time.Millisecond) // 5 rows of 20 ms are ahead
		if err := r.Predict(t.Context()); !errors.Is(err, engine.ErrBusy) {
			t.Errorf("got %v, want busy", err)
		}
		r.Release()
		close(g.open)
		answered()
	})
}

func TestOneBadRequestFailsAlone(t *testing.T) {
	var first atomic.Bool
	g := newGate()
	poison := errors.New("poisoned")
	b := enginetest.New(enginetest.Script{OnRun: func(rows int) error {
		if first.CompareAndSwap(false, true) {
			return g.run(rows)
		}
		if rows != 1 {
			return poison // any batch
		}
		return nil
	}})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 1})
	var wg sync.WaitGroup
	for i := range 6 {
		rows := 1
		if i == 3 {
			rows = 2
		}
		r := newRequest(t, e, "m", rows, float32(i+1))
		wg.Go(func() {
			defer r.Release()
			err := r.Predict(t.Context())
			if i == 3 {
				if !errors.Is(err, engine.ErrRun) || !errors.Is(err, poison) {
					t.Errorf("the bad request got %v", err)
				}
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			checkScores(t, r, float32(i+1), 0)
		})
		if i == 0 {
			<-g.entered
		}
	}
	eventually(t, "five wait", func() bool { return stats(t, e, "m").WaitingRequests == 5 })
	close(g.open)
	wg.Wait()
}

func TestBackendPanicFailsTheRunOnly(t *testing.T) {
	for _, p := range []engine.Properties{{}, inline} {
		var fail atomic.Bool
		b := enginetest.New(enginetest.Script{Properties: p, OnRun: func(int) error {
			if fail.Load() {
				panic("oops")
			}
			return nil
		}})
		e := newEngine(t, engine.Options{}, b)
		load(t, e, "m", engine.ModelOptions{Instances: 1})
		fail.Store(true)
		r := newRequest(t, e, "m", 1, 1)
		if err := r.Predict(t.Context()); !errors.Is(err, engine.ErrRun) {
			t.Errorf("got %v, want a failed run", err)
		}
		r.Release()
		fail.Store(false)
		predict(t, e, "m", 1, 1, 0)
	}
}

func TestBatchDelay(t *testing.T) {
	sizes := make(chan int, 100)
	b := enginetest.New(enginetest.Script{Properties: inline, OnRun: func(rows int) error { sizes <- rows; return nil }})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 2, MaxBatchRows: 8, BatchDelay: time.Minute})
	// Many times, because an instance that is woken for the second request must
	// not take it away from the one that waits with the first.
	for range 50 {
		var wg sync.WaitGroup
		for i := range 8 {
			r := newRequest(t, e, "m", 1, float32(i+1))
			wg.Go(func() {
				defer r.Release()
				if err := r.Predict(t.Context()); err != nil {
					t.Error(err)
					return
				}
				checkScores(t, r, float32(i+1), 0)
			})
		}
		wg.Wait() // well before the minute: the eighth fills the batch
		if rows := <-sizes; rows != 8 {
			t.Fatalf("the batch had %d rows, want 8", rows)
		}
	}
	// One that is abandoned while an instance waits for company.
	ctx, cancel := context.WithCancel(t.Context())
	r := newRequest(t, e, "m", 1, 1)
	go func() {
		eventually(t, "it waits", func() bool { return stats(t, e, "m").WaitingRequests == 1 })
		cancel()
	}()
	if err := r.Predict(ctx); !errors.Is(err, engine.ErrCanceled) {
		t.Errorf("got %v, want canceled", err)
	}
	r.Release()
	if err := e.Unload(t.Context(), "m"); err != nil { // must not take the minute either
		t.Error(err)
	}
}

func TestLoadRefusals(t *testing.T) {
	b := enginetest.New(enginetest.Script{Name: "good"})
	unusable := enginetest.New(enginetest.Script{Name: "unusable", Probe: errors.New("its library is not here"), Match: 109})
	broken := enginetest.New(enginetest.Script{Name: "broken", Instance: errors.New("no instance for you")})
	damaged := enginetest.New(enginetest.Script{Name: "damaged", Open: fmt.Errorf("%w: it is truncated", engine.ErrArtifact)})
	nothing := enginetest.New(enginetest.Script{Name: "nothing", Signature: &engine.Signature{}})
	huge := enginetest.New(enginetest.Script{Name: "huge", Signature: &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "x", DType: tensor.FP32, Dims: []int64{-1, 1 << 40, 1 << 40}}},
		Outputs: []engine.TensorSpec{{Name: "y", DType: tensor.FP32, Dims: []int64{-1}}}}})
	e := newEngine(t, engine.Options{}, b, unusable, broken, damaged, nothing, huge)
	load(t, e, "taken", engine.ModelOptions{Backend: "good"})
	for _, c := range []struct {
		name, model string
		o           engine.ModelOptions
		want        error
		says        string
	}{
		{"empty name", "", engine.ModelOptions{}, engine.ErrInvalidName, "empty"},
		{"name with a slash", "a/b", engine.ModelOptions{}, engine.ErrInvalidName, "letters"},
		{"name with a final hyphen", "a-", engine.ModelOptions{}, engine.ErrInvalidName, "letters"},
		{"long name", strings.Repeat("a", 256), engine.ModelOptions{}, engine.ErrInvalidName, "longer"},
		{"taken name", "taken", engine.ModelOptions{}, engine.ErrExists, ""},
		{"unknown backend", "m", engine.ModelOptions{Backend: "tpu"}, engine.ErrInvalidInput, "there is no backend"},
		{"negative option", "m", engine.ModelOptions{MaxQueue: -1}, engine.ErrInvalidInput, "max queue"},
		{"too many instances", "m", engine.ModelOptions{Instances: 1 << 30}, engine.ErrInvalidInput, "instances"},
		{"unusable backend", "m", engine.ModelOptions{Backend: "unusable"}, engine.ErrArtifact, "its library is not here"},
		{"no instance", "m", engine.ModelOptions{Backend: "broken", Instances: 3}, nil, "no instance for you"},
		{"damaged artifact", "m", engine.ModelOptions{Backend: "damaged"}, engine.ErrArtifact, "truncated"},
		{"no tensors", "m", engine.ModelOptions{Backend: "nothing"}, engine.ErrArtifact, "0 inputs"},
		{"shape that overflows", "m", engine.ModelOptions{Backend: "huge"}, engine.ErrArtifact, "64 bits"},
	} {
		_, err := e.Load(t.Context(), c.model, "somewhere", c.o)
		if err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v saying %q", c.name, err, c.want, c.says)
		}
	}
	if list := e.List(); len(list) != 1 || list[0].Name != "taken" {
		t.Errorf("after the refusals %d models are loaded", len(list))
	}
	predict(t, e, "taken", 1, 1, 0)
	if _, err := e.Acquire("m"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("acquiring what is not loaded: %v", err)
	}
	if err := e.Unload(t.Context(), "m"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("unloading what is not loaded: %v", err)
	}
}

func TestNewLooksAtTheHostItself(t *testing.T) {
	if _, err := engine.New(engine.Options{}); err == nil {
		t.Error("an engine without a source was made")
	}
	source := enginetest.Source{Dir: t.TempDir()}
	e, err := engine.New(engine.Options{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	if host := e.Host(); host == nil || host.CPU.CoresAllowed <= 0 {
		t.Errorf("the host is %+v", host)
	}
	t.Setenv("PICKET_CPU_MASK", "no-such-feature")
	if _, err := engine.New(engine.Options{Source: source}); err == nil {
		t.Error("a mask that means nothing was taken")
	}
}

// TestNoBackendSaysWhatIsWrongWithTheFolder: that a file is not of any format is no help where there is none to read.
func TestNoBackendSaysWhatIsWrongWithTheFolder(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.New(engine.Options{
		Host: &hw.Host{CPU: hw.CPU{CoresAllowed: 2}}, Source: enginetest.Source{Dir: dir},
		Backends: []engine.Backend{enginetest.New(enginetest.Script{Name: "other", Match: -1})},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	const none = "no backend can run it: other (the artifact is not of its format)"
	refused := func(want string) {
		t.Helper()
		if _, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{}); !errors.Is(err, engine.ErrArtifact) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refused(": the folder is empty, and " + none)
	if err := os.Symlink(filepath.Join(t.TempDir(), "compiled.so"), filepath.Join(dir, "compiled.so")); err != nil {
		t.Fatal(err)
	}
	refused(": " + none + `; "compiled.so" was left out: it is a link out of the folder`)
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "compiled.so")); err != nil {
		t.Fatal(err)
	}
	refused(": " + none)
}

// TestNotesOnHowAModelAnswers are in the log, with the model's name, and in the reason of what was chosen.
func TestNotesOnHowAModelAnswers(t *testing.T) {
	var log bytes.Buffer
	notes := []engine.Note{{Level: slog.LevelWarn, Text: "sevens are taken as eights"}, {Level: slog.LevelInfo, Text: "nines too"}}
	e := newEngine(t, engine.Options{Log: slog.New(slog.NewTextHandler(&log, nil))},
		enginetest.New(enginetest.Script{Properties: engine.Properties{Notes: notes}}))
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if reason, want := d.Candidates[0].Reason, "chosen: it matches the artifact best; sevens are taken as eights; nines too"; reason != want {
		t.Errorf("the reason is %q, want %q", reason, want)
	}
	for _, want := range []string{
		`level=WARN msg="how the model answers" model=m url=somewhere backend=fake note="sevens are taken as eights"`,
		`level=INFO msg="how the model answers" model=m url=somewhere backend=fake note="nines too"`,
	} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log does not say once %s: %s", want, log.String())
		}
	}
}

func TestReplace(t *testing.T) {
	one := enginetest.New(enginetest.Script{Name: "one", Bias: 100})
	two := enginetest.New(enginetest.Script{Name: "two", Bias: 200})
	bad := enginetest.New(enginetest.Script{Name: "bad", Open: fmt.Errorf("%w: cut short", engine.ErrArtifact)})
	different := enginetest.New(enginetest.Script{Name: "different", Signature: &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, 4}}},
		Outputs: []engine.TensorSpec{{Name: "score", DType: tensor.FP32, Dims: []int64{-1, 1}}}}})
	e := newEngine(t, engine.Options{}, one, two, bad, different)
	replace := func(backend string) error {
		_, err := e.Replace(t.Context(), "m", "somewhere", engine.ModelOptions{Backend: backend})
		return err
	}
	if err := replace("one"); err != nil { // nothing to replace is fine too
		t.Fatal(err)
	}
	predict(t, e, "m", 2, 1, 100)
	if err := replace("bad"); !errors.Is(err, engine.ErrArtifact) {
		t.Errorf("a bad replacement: %v", err)
	}
	if err := replace("different"); !errors.Is(err, engine.ErrSignature) {
		t.Errorf("a replacement with another signature: %v", err)
	}
	predict(t, e, "m", 2, 1, 100)
	old := newRequest(t, e, "m", 1, 7)
	if err := replace("two"); err != nil {
		t.Fatal(err)
	}
	predict(t, e, "m", 2, 1, 200)
	// A request made before the replacement is still the old model's.
	if err := old.Predict(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkScores(t, old, 7, 100)
	if models, _ := one.Live(); models != 1 {
		t.Errorf("the old model closed under a request of its own")
	}
	old.Release()
	eventually(t, "the old model closes", func() bool { models, _ := one.Live(); return models == 0 })
}

func TestClose(t *testing.T) {
	g := newGate()
	b := enginetest.New(enginetest.Script{OnRun: g.run})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{Instances: 1})
	answered := g.crowd(t, e, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("closing while requests are under way: %v", err)
	}
	if _, err := e.Acquire("m"); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("acquiring after Close: %v", err)
	}
	if _, err := e.Load(t.Context(), "n", "somewhere", engine.ModelOptions{}); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("loading after Close: %v", err)
	}
	close(g.open)
	answered() // those under way
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRequestRefusals(t *testing.T) {
	fixed := enginetest.New(enginetest.Script{Signature: &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{4, 3}}},
		Outputs: []engine.TensorSpec{{Name: "score", DType: tensor.FP32, Dims: []int64{1}}}}})
	e := newEngine(t, engine.Options{}, fixed)
	load(t, e, "m", engine.ModelOptions{})
	m, err := e.Acquire("m")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	for _, rows := range []int{-1, 0, 2, 1 << 40} {
		if _, err := m.NewRequest(rows); !errors.Is(err, engine.ErrInvalidInput) {
			t.Errorf("%d rows of a fixed shape: %v", rows, err)
		}
	}
	r, err := m.NewRequest(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if r.Inputs[0].Size() != 48 {
		t.Errorf("the fixed input has %d bytes", r.Inputs[0].Size())
	}
	wrong, err := tensor.New("data", tensor.FP32, tensor.MustShape(3, 4))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetInput(0, wrong); !errors.Is(err, engine.ErrInvalidInput) {
		t.Errorf("an input of another shape: %v", err)
	}
	wrong.Buffer.Release()
	wide, err := tensor.Alloc(256)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := tensor.In("data", tensor.FP32, tensor.MustShape(4, 3), wide, 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetInput(0, odd); !errors.Is(err, engine.ErrInvalidInput) {
		t.Errorf("an input that is not aligned: %v", err)
	}
	if err := r.SetInput(0, tensor.Tensor{DType: tensor.FP32, Shape: tensor.MustShape(4, 3)}); !errors.Is(err, engine.ErrInvalidInput) {
		t.Errorf("an input without memory: %v", err)
	}
	wide.Release()
	right, err := tensor.New("other", tensor.FP32, tensor.MustShape(4, 3))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetInput(0, right); err != nil {
		t.Fatal(err)
	}
	fillRows(t, r, 1)
	if err := r.Predict(t.Context()); err != nil {
		t.Fatal(err)
	}
	if y, err := tensor.View[float32](r.Outputs[0]); err != nil || y[0] != 1+2+3+4 {
		t.Errorf("got %v, %v", y, err)
	}
}

func TestPredictDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	for name, p := range map[string]engine.Properties{"inline": inline, "queued": {}} {
		b := enginetest.New(enginetest.Script{Properties: p})
		e := newEngine(t, engine.Options{}, b)
		load(t, e, "m", engine.ModelOptions{})
		ctx := t.Context()
		once := func() {
			m, err := e.Acquire("m")
			if err != nil {
				t.Fatal(err)
			}
			r, err := m.NewRequest(1)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Predict(ctx); err != nil {
				t.Fatal(err)
			}
			r.Release()
			m.Release()
		}
		for range 100 {
			once()
		}
		if n := testing.AllocsPerRun(1000, once); n != 0 {
			t.Errorf("%s: %v allocations a request", name, n)
		}
	}
}

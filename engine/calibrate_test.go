package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
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

// watch is a clock that goes forward when somebody says so, by which backends are timed.
type watch struct{ ns atomic.Int64 }

// newTimedEngine is newEngine with the watch's clock.
func newTimedEngine(t testing.TB, w *watch, o engine.Options, backends ...*enginetest.Backend) *engine.Engine {
	t.Helper()
	e := newEngine(t, o, backends...)
	e.SetClock(w.ns.Load)
	return e
}

// takes gives a script whose runs take so long by the watch.
func (w *watch) takes(s enginetest.Script, a time.Duration, each time.Duration) enginetest.Script {
	then := s.OnRun
	s.OnRun = func(rows int) error {
		w.ns.Add(int64(a) + int64(rows)*int64(each))
		if then == nil {
			return nil
		}
		return then(rows)
	}
	return s
}

const us = time.Microsecond

// TestTheFastestIsChosen times models of every kind.
func TestTheFastestIsChosen(t *testing.T) {
	for name, p := range map[string]engine.Properties{"inline": inline, "queued": {}, "in parts": {MaxRows: 7}, "one instance": {MaxInstances: 1}} {
		t.Run(name, func(t *testing.T) {
			p.Variant = "this"
			var w watch
			slow := enginetest.New(w.takes(enginetest.Script{Name: "slow", Match: 105, Properties: p}, 4*us, 0))
			fast := enginetest.New(w.takes(enginetest.Script{Name: "fast", Match: 95, Properties: p}, 2500*time.Nanosecond, 0))
			slower := enginetest.New(w.takes(enginetest.Script{Name: "slower", Match: 90}, 5*us, 0))
			e := newTimedEngine(t, &w, engine.Options{}, slower, slow, fast)
			d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{Instances: 2})
			if err != nil {
				t.Fatal(err)
			}
			want := []engine.Candidate{
				{Backend: "fast", Variant: "this", Chosen: true, USPerRow: 2.5, Reason: "chosen: the fastest of 3 with 1 row a request"},
				{Backend: "slow", Variant: "this", USPerRow: 4, Reason: "slower (4.00 µs)"},
				{Backend: "slower", USPerRow: 5, Reason: "slower (5.00 µs)"},
			}
			if !slices.Equal(d.Candidates, want) || d.Backend != "fast" {
				t.Errorf("%s of %+v", d.Backend, d.Candidates)
			}
			for _, loser := range []*enginetest.Backend{slow, slower} {
				if models, instances := loser.Live(); models != 0 || instances != 0 || loser.Opened() != 1 {
					t.Errorf("of %s %d models and %d instances are open, it was opened %d times", loser.Name(), models, instances, loser.Opened())
				}
			}
			if fast.Opened() != 1 {
				t.Errorf("the fastest was opened %d times", fast.Opened())
			}
			predict(t, e, "m", 3, 1, 0)
		})
	}
}

// TestTheBestMatchWinsATie: what comes and goes with the weather does not change who runs a model.
func TestTheBestMatchWinsATie(t *testing.T) {
	for ns, want := range map[time.Duration]string{1000: "best", 960: "best", 900: "other"} {
		var w watch
		best := enginetest.New(w.takes(enginetest.Script{Name: "best", Match: 101}, 1000, 0))
		other := enginetest.New(w.takes(enginetest.Script{Name: "other"}, ns, 0))
		e := newTimedEngine(t, &w, engine.Options{}, other, best)
		d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if want == "best" {
			checkReasons(t, d, want, map[string]string{"other": "not clearly faster ("})
		} else {
			checkReasons(t, d, want, map[string]string{"best": "slower (1.00 µs)"})
		}
	}
}

// TestRowsExpected: one backend is faster with one row, the other with many.
func TestRowsExpected(t *testing.T) {
	var w watch
	single := enginetest.New(w.takes(enginetest.Script{Name: "single"}, 0, us))
	batch := enginetest.New(w.takes(enginetest.Script{Name: "batch"}, 6400*time.Nanosecond, 100))
	e := newTimedEngine(t, &w, engine.Options{Defaults: engine.ModelOptions{ExpectedRows: 64}}, single, batch)
	for _, c := range []struct {
		rows         int
		want, reason string
		us           float64
	}{
		{0, "batch", "chosen: the fastest of 2 with 64 rows a request", 0.2},
		{1, "single", "chosen: the fastest of 2 with 1 row a request", 1},
		{64, "batch", "chosen: the fastest of 2 with 64 rows a request", 0.2},
		{1000, "batch", "chosen: the fastest of 2 with 1000 rows a request", 0.1064},
	} {
		d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{ExpectedRows: c.rows})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Candidates[0]; got.Backend != c.want || got.Reason != c.reason || math.Abs(got.USPerRow-c.us) > 1e-9 {
			t.Errorf("with %d rows: %+v", c.rows, got)
		}
		if err := e.Unload(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{ExpectedRows: -1}); !errors.Is(err, engine.ErrInvalidInput) {
		t.Errorf("a negative number of rows: %v", err)
	}
}

// oddSignature is one that another model with the default signature cannot be compared with.
var oddSignature = &engine.Signature{
	Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, 3}}},
	Outputs: []engine.TensorSpec{{Name: "score", DType: tensor.FP32, Dims: []int64{-1, 2}}},
}

// TestWhoIsOutOfTheRace: each of these would be the fastest, and one thing is wrong with it.
func TestWhoIsOutOfTheRace(t *testing.T) {
	runs := 0
	for name, c := range map[string]struct {
		script enginetest.Script
		says   string
	}{
		"answers otherwise":  {enginetest.Script{Bias: 0.25}, `not chosen: its answers differ from those of best: 1 of 1 numbers of output "score", by up to 0.25 (`},
		"answers NaN":        {enginetest.Script{Bias: float32(math.NaN())}, "by up to +Inf (NaN against "},
		"almost the same":    {enginetest.Script{Bias: 1e-3}, "by up to 0.001 ("},
		"differs in batches": {enginetest.Script{BatchBias: 1}, `251 of 251 numbers of output "score", by up to 1 (`},
		"other tensors":      {enginetest.Script{Signature: oddSignature}, "not chosen: it takes or gives other tensors than best"},
		"no tensors":         {enginetest.Script{Signature: &engine.Signature{}}, "0 inputs"},
		"no instance":        {enginetest.Script{Instance: errors.New("no instance for you")}, "making an instance: no instance for you"},
		"fails":              {enginetest.Script{OnRun: func(int) error { return errors.New("out of paper") }}, "failed while it was timed: run failed: out of paper"},
		"panics":             {enginetest.Script{OnRun: func(int) error { panic("index out of range") }}, "failed while it was timed: the backend panicked"},
		"panics later":       {enginetest.Script{OnRun: func(int) error { return panicAfter(&runs, 600) }}, "failed while it was timed: the backend panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			c.script.Name = "odd"
			var w watch
			best := enginetest.New(w.takes(enginetest.Script{Name: "best", Match: 105}, 10*us, 0))
			odd := enginetest.New(w.takes(c.script, us, 0))
			var log bytes.Buffer
			e := newTimedEngine(t, &w, engine.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, odd, best)
			d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{MaxBatchRows: 1})
			if err != nil {
				t.Fatal(err)
			}
			checkReasons(t, d, "best", map[string]string{
				"best": "chosen: it matches the artifact best, and no other was fit to be timed against it", "odd": c.says})
			if !strings.Contains(log.String(), `msg="a backend is out of the race" model=m url=somewhere backend=odd`) {
				t.Errorf("the log does not say it: %s", &log)
			}
			predict(t, e, "m", 2, 1, 0)
		})
	}
}

// TestAlmostTheSameAnswers: a sum in another order is no reason to be slower.
func TestAlmostTheSameAnswers(t *testing.T) {
	var w watch
	best := enginetest.New(w.takes(enginetest.Script{Name: "best", Match: 105}, 10*us, 0))
	near := enginetest.New(w.takes(enginetest.Script{Name: "near", Bias: 2e-6}, us, 0))
	e := newTimedEngine(t, &w, engine.Options{}, best, near)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, d, "near", map[string]string{"best": "slower (10.00 µs)"})
}

// idle is a backend whose models leave rows of larger batches unanswered: all of them, or those behind the last full
// vector.
type idle struct {
	*enginetest.Backend
	whole int // a batch's rows are answered up to a multiple of it
}

func (b idle) Open(ctx context.Context, a *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	m, err := b.Backend.Open(ctx, a, o)
	return idleModel{m, b.whole}, err
}

type idleModel struct {
	engine.Model
	whole int
}

func (m idleModel) NewInstance() (engine.Instance, error) {
	i, err := m.Model.NewInstance()
	return idleInstance{i, m.whole}, err
}

type idleInstance struct {
	engine.Instance
	whole int
}

func (i idleInstance) Run(in, out []tensor.Tensor, rows int) error {
	if rows == 1 {
		return i.Instance.Run(in, out, rows)
	}
	n := rows - rows%i.whole
	if n == 0 {
		return nil
	}
	return i.Instance.Run([]tensor.Tensor{in[0].Rows(0, n)}, []tensor.Tensor{out[0].Rows(0, n)}, n)
}

// TestRowsLeftUnanswered: what a kernel for batches does not write is not taken for the answer that an earlier run wrote
// there, nor are whole vectors all that is compared.
func TestRowsLeftUnanswered(t *testing.T) {
	for _, whole := range []int{8, 64, 1 << 20} {
		for _, expected := range []int{1, 64, 512} {
			var w watch
			best := enginetest.New(w.takes(enginetest.Script{Name: "best", Match: 105}, 10*us, 0))
			odd := idle{enginetest.New(w.takes(enginetest.Script{Name: "odd"}, us, 0)), whole}
			e := newTimedEngine(t, &w, engine.Options{Backends: []engine.Backend{odd}}, best)
			d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{ExpectedRows: expected})
			if err != nil {
				t.Fatal(err)
			}
			checkReasons(t, d, "best", map[string]string{"odd": "its answers differ"})
		}
	}
}

func panicAfter(runs *int, n int) error {
	if *runs++; *runs > n {
		panic("index out of range")
	}
	return nil
}

// TestTheBestMatchMustRun: as when it is the only one.
func TestTheBestMatchMustRun(t *testing.T) {
	other := enginetest.New(enginetest.Script{Name: "other", Match: 50})
	for name, c := range map[string]struct {
		script enginetest.Script
		want   error
		says   string
	}{
		"run":      {enginetest.Script{OnRun: func(int) error { return errors.New("out of paper") }}, engine.ErrRun, "out of paper"},
		"panic":    {enginetest.Script{OnRun: func(int) error { panic("index out of range") }}, nil, "panicked"},
		"instance": {enginetest.Script{Instance: errors.New("no instance for you")}, nil, "no instance for you"},
		"tensors":  {enginetest.Script{Signature: &engine.Signature{}}, engine.ErrArtifact, "0 inputs"},
	} {
		b := enginetest.New(c.script)
		e := newEngine(t, engine.Options{}, b, other)
		if _, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{}); err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
		}
		if models, instances := b.Live(); models != 0 || instances != 0 {
			t.Errorf("%s: %d models and %d instances are left", name, models, instances)
		}
	}
}

// TestSlowModels: those of seconds are not run again and again while a client waits for the load.
func TestSlowModels(t *testing.T) {
	for _, c := range []struct {
		row  time.Duration
		rows int // expected
		runs int64
		us   float64
	}{
		{time.Second, 1, 1, 1e6},
		{time.Second, 64, 1, 1e6},
		{25 * time.Millisecond, 1, 1, 25000},
		{25 * time.Millisecond, 64, 2, 25000}, // one row, and 40 of the 64
	} {
		var w watch
		var runs atomic.Int64
		count := func(int) error { runs.Add(1); return nil }
		slow := enginetest.New(w.takes(enginetest.Script{Name: "slow", OnRun: count}, 0, c.row))
		slower := enginetest.New(w.takes(enginetest.Script{Name: "slower", Match: 105}, 0, 2*c.row))
		e := newTimedEngine(t, &w, engine.Options{}, slower, slow)
		d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{ExpectedRows: c.rows})
		if err != nil {
			t.Fatal(err)
		}
		checkReasons(t, d, "slow", map[string]string{"slower": "slower ("})
		if n := runs.Load(); n != c.runs || d.Candidates[0].USPerRow != c.us {
			t.Errorf("%v a row, %d expected: it was run %d times, want %d, and took %v µs", c.row, c.rows, n, c.runs, d.Candidates[0].USPerRow)
		}
	}
}

// TestBusyHost: where every turn is waited for, there are fewer of them, and a load does not take seconds.
func TestBusyHost(t *testing.T) {
	var ran atomic.Bool
	var ns atomic.Int64
	clock := func() int64 {
		if ran.Swap(false) {
			return ns.Load()
		}
		return ns.Add(int64(10 * time.Millisecond)) // the wait for the processor, before a turn
	}
	takes := func(name string, a time.Duration) *enginetest.Backend {
		return enginetest.New(enginetest.Script{Name: name, OnRun: func(int) error {
			ns.Add(int64(a))
			ran.Store(true)
			return nil
		}})
	}
	e := newEngine(t, engine.Options{}, takes("slow", 150*us), takes("fast", 100*us))
	e.SetClock(clock)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, d, "fast", map[string]string{"slow": "slower (150 µs)"})
	if took := time.Duration(ns.Load()); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestCandidateThatDoesNotFitTheMachine is left out; the one that does is used.
func TestCandidateThatDoesNotFitTheMachine(t *testing.T) {
	host := &hw.Host{CPU: hw.CPU{CoresAllowed: 2}, Memory: hw.Memory{Total: 1 << 20, Cgroup: hw.Limit{Unlimited: true}}}
	wide := &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "x", DType: tensor.FP32, Dims: []int64{engine.Variable, 1 << 16}}},
		Outputs: []engine.TensorSpec{{Name: "y", DType: tensor.FP32, Dims: []int64{engine.Variable, 1}}},
	}
	fits := enginetest.New(enginetest.Script{Name: "fits", Match: 105})
	large := enginetest.New(enginetest.Script{Name: "large", Signature: wide})
	e := newEngine(t, engine.Options{Host: host}, large, fits)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, d, "fits", map[string]string{"large": "the process may use 1 MiB in all"})
}

// TestWideRows: rows that are megabytes each are few.
func TestWideRows(t *testing.T) {
	wide := &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "x", DType: tensor.FP32, Dims: []int64{engine.Variable, 1 << 20}}},
		Outputs: []engine.TensorSpec{{Name: "y", DType: tensor.FP32, Dims: []int64{engine.Variable, 1}}},
	}
	most := 0
	one := enginetest.New(enginetest.Script{Name: "one", Signature: wide, OnRun: func(rows int) error { most = max(most, rows); return nil }})
	two := enginetest.New(enginetest.Script{Name: "two", Signature: wide})
	e := newEngine(t, engine.Options{}, one, two)
	load(t, e, "m", engine.ModelOptions{MaxBatchRows: 1, ExpectedRows: 1000})
	if most == 0 || most > 3 {
		t.Errorf("%d rows of 4 MiB were run at once, 16 MiB hold 3", most)
	}
}

// TestFixedShape: a model without rows is timed with what it takes.
func TestFixedShape(t *testing.T) {
	fixed := &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{4, 3}}},
		Outputs: []engine.TensorSpec{{Name: "score", DType: tensor.FP32, Dims: []int64{1}}},
	}
	var w watch
	slow := enginetest.New(w.takes(enginetest.Script{Name: "slow", Signature: fixed}, 2*us, 0))
	fast := enginetest.New(w.takes(enginetest.Script{Name: "fast", Signature: fixed}, us, 0))
	e := newTimedEngine(t, &w, engine.Options{}, slow, fast)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{ExpectedRows: 64})
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, d, "fast", map[string]string{"fast": "the fastest of 2 with 1 row a request", "slow": "slower (2.00 µs)"})
}

// sampling is a backend whose models know what rows are typical.
type sampling struct{ *enginetest.Backend }

func (s sampling) Name() string { return "sampling" }

func (s sampling) Open(ctx context.Context, a *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	m, err := s.Backend.Open(ctx, a, o)
	return sampler{m}, err
}

type sampler struct{ engine.Model }

func (sampler) Sample(in []tensor.Tensor, rows int) {
	x, err := tensor.View[float32](in[0])
	if err != nil || len(x) != rows*enginetest.Columns {
		panic("the tensors are not of that many rows")
	}
	for i := range x {
		x[i] = 7
	}
}

// TestTypicalRows: all candidates get the rows that one of them makes, whichever it is; else random ones.
func TestTypicalRows(t *testing.T) {
	seen := map[float32]bool{}
	watch := watching{enginetest.New(enginetest.Script{Name: "watching", Match: 105}), seen}
	e := newEngine(t, engine.Options{Backends: []engine.Backend{watch, sampling{enginetest.New(enginetest.Script{})}}})
	load(t, e, "m", engine.ModelOptions{MaxBatchRows: 1})
	delete(seen, 0.5) // the warm-up's, if it was chosen
	if !seen[7] || len(seen) != 1 {
		t.Errorf("the rows hold %v, want the Sampler's 7", seen)
	}
	clear(seen)
	e = newEngine(t, engine.Options{Backends: []engine.Backend{watch}}, enginetest.New(enginetest.Script{}))
	load(t, e, "m", engine.ModelOptions{MaxBatchRows: 1})
	if seen[7] || len(seen) < 100 {
		t.Errorf("without a Sampler, the rows hold %d numbers, want random ones", len(seen))
	}
}

// watching notes which numbers it is run on.
type watching struct {
	*enginetest.Backend
	seen map[float32]bool
}

func (w watching) Open(ctx context.Context, a *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	m, err := w.Backend.Open(ctx, a, o)
	return watchingModel{m, w.seen}, err
}

type watchingModel struct {
	engine.Model
	seen map[float32]bool
}

func (m watchingModel) NewInstance() (engine.Instance, error) {
	i, err := m.Model.NewInstance()
	return watchingInstance{i, m.seen}, err
}

type watchingInstance struct {
	engine.Instance
	seen map[float32]bool
}

func (i watchingInstance) Run(in, out []tensor.Tensor, rows int) error {
	x, err := tensor.View[float32](in[0])
	if err != nil {
		return err
	}
	for _, v := range x {
		i.seen[v] = true
	}
	return i.Instance.Run(in, out, rows)
}

// TestCalibrationsTakeTurns: of several loads at once, one times its backends at any moment, and who gives up waiting
// for that is told so.
func TestCalibrationsTakeTurns(t *testing.T) {
	var running, together atomic.Int64
	stuck := newGate()
	run := func(int) error {
		if running.Add(1) > 1 {
			together.Add(1)
		}
		defer running.Add(-1)
		return stuck.run(1)
	}
	one := enginetest.New(enginetest.Script{Name: "one", OnRun: run})
	two := enginetest.New(enginetest.Script{Name: "two", OnRun: run})
	e := newEngine(t, engine.Options{}, one, two)
	var loads sync.WaitGroup
	loads.Go(func() { load(t, e, "first", engine.ModelOptions{}) })
	<-stuck.entered
	ctx, cancel := context.WithCancel(t.Context())
	loads.Go(func() {
		if _, err := e.Load(ctx, "impatient", "somewhere", engine.ModelOptions{}); !errors.Is(err, engine.ErrCanceled) {
			t.Errorf("the load that gave up: %v", err)
		}
	})
	loads.Go(func() { load(t, e, "second", engine.ModelOptions{}) })
	cancel()
	close(stuck.open)
	go func() {
		for range stuck.entered {
		}
	}()
	loads.Wait()
	close(stuck.entered)
	if n := together.Load(); n != 0 {
		t.Errorf("%d runs of two calibrations at once", n)
	}
}

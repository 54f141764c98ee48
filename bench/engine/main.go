//go:build cgo && linux

// Command engine measures what the engine adds to a prediction: one row through
// Acquire, NewRequest, Predict and Release, against a C loop that calls the same
// artifact's predict function. JSON goes to standard output.
//
// Counted are finding the model, memory for the request, copying the row in and
// the answer out, the call from Go into C, and the accounting. Not counted are a
// server around it, and requests that meet: there is one caller, and a model
// that runs inline does not wait for a batch. Both subjects open the same file,
// each through a mapping of its own, so neither warms the other's code. In the
// shuffled condition they take turns every callRows rows, not every row.
package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/tensor"
)

// callRows is how many single rows one measured call predicts: a clock reading
// is a fair part of a microsecond.
const callRows = 100

func main() {
	program.Main("bench-engine", run)
}

func run(ctx context.Context) error {
	demo, err := models.Demo(ctx)
	if err != nil {
		return err
	}
	large, err := models.Trained(ctx, 500, 6, 30)
	if err != nil {
		return err
	}
	out := report.New()
	var results []report.Kernel
	for _, m := range []models.Model{demo, models.Fixture(), large} {
		kernels, err := measure(ctx, m, out)
		if err != nil {
			return fmt.Errorf("measuring model %s: %w", m.Name, err)
		}
		results = append(results, kernels...)
	}
	out.Results = results
	return out.Write()
}

func measure(ctx context.Context, m models.Model, out *report.Report) (results []report.Kernel, err error) {
	rows, err := testrows.New(m.Features)
	if err != nil {
		return nil, err
	}
	defer rows.Buffer.Release()
	answers, err := tensor.New("answers", tensor.FP32, tensor.MustShape(models.TestRows, 1))
	if err != nil {
		return nil, err
	}
	defer answers.Buffer.Release()

	artifact, err := native.Open(m.Dir)
	if err != nil {
		return nil, err
	}
	defer artifact.Close()
	source, err := store.New(store.Options{Unsigned: true})
	if err != nil {
		return nil, err
	}
	eng, err := engine.New(engine.Options{
		Host:   hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true}),
		Source: source, Backends: []engine.Backend{treelite.New()},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, eng.Close(ctx)) }()
	if _, err := eng.Load(ctx, "m", m.Dir, engine.ModelOptions{}); err != nil {
		return nil, err
	}

	var failed error
	through := func(from, n int) time.Duration {
		if e := predictEach(ctx, eng, rows, answers, from, n); e != nil {
			failed = e
		}
		return 0
	}
	direct := func(from, n int) time.Duration {
		return artifact.Run(rows.Rows(from, from+n), answers.Rows(from, from+n))
	}

	// The same answers, or the times mean nothing.
	direct(0, models.TestRows)
	want := append([]byte(nil), answers.Bytes()...)
	clear(answers.Bytes())
	if through(0, models.TestRows); failed != nil {
		return nil, failed
	}
	if string(want) != string(answers.Bytes()) {
		return nil, errors.New("the engine's answers differ from those of the C loop")
	}

	subjects := []interleave.Subject{{Name: "C loop", Run: direct}, {Name: "engine", Run: through}}
	plan := interleave.Plan{TestRows: models.TestRows, Rows: callRows, Rounds: 15, Turn: 100 * time.Millisecond, Calls: 1000, Seed: 1}
	for _, c := range interleave.Conditions() {
		var us [2]float64
		for i, d := range c.Measure(subjects, plan) {
			us[i] = float64(d.Nanoseconds()) / 1e3 / callRows
			results = append(results, report.Kernel{Model: m.Name, Engine: subjects[i].Name, Condition: c.Name, Rows: 1, Cores: 1, USPerRow: us[i]})
		}
		out.Promise(fmt.Sprintf("engine above a C loop, %s by %s, 1 row, %s (C %.2f us)", m.Name, m.Made, c.Name, us[0]), us[1]-us[0], "us", 1.5)
	}
	if failed != nil {
		return nil, failed
	}
	out.Promise("allocations per request, "+m.Name, allocations(func() { through(0, callRows) })/callRows, "allocations", 0)
	return results, nil
}

// predictEach is what a server does for each request, n times.
func predictEach(ctx context.Context, eng *engine.Engine, rows, answers tensor.Tensor, from, n int) error {
	for i := from; i < from+n; i++ {
		m, err := eng.Acquire("m")
		if err != nil {
			return err
		}
		r, err := m.NewRequest(1)
		if err != nil {
			return err
		}
		copy(r.Inputs[0].Bytes(), rows.Rows(i, i+1).Bytes())
		if err := r.Predict(ctx); err != nil {
			return err
		}
		copy(answers.Rows(i, i+1).Bytes(), r.Outputs[0].Bytes())
		r.Release()
		m.Release()
	}
	return nil
}

// allocations is how many heap objects f makes, on average of many calls.
func allocations(f func()) float64 {
	const calls = 100
	var before, after runtime.MemStats
	f()
	runtime.ReadMemStats(&before)
	for range calls {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / calls
}

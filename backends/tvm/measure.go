//go:build cgo && linux

package tvm

import (
	"context"
	"fmt"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

const (
	// shareable is how long a run takes at least for which further threads are
	// tried. Calling one up takes some microseconds for each function.
	shareable = 100 * time.Microsecond
	// worthwhile is how much of the time a number of threads may take at most that is
	// preferred to half as many.
	worthwhile = 0.85
	// briefly is how long a run may take on the thread that brought the request: with
	// longer ones, a caller that gives up should not have to wait for the end.
	briefly = 2 * time.Millisecond
	// What a measurement takes at most.
	measureRuns = 20
	measureTime = 20 * time.Millisecond
)

// measure times the model to find out how many threads a run is worth, and says how
// it likes to be run.
func (m *model) measure(ctx context.Context) (engine.Properties, error) {
	p := engine.Properties{BatchRows: m.batch, Variant: string(m.metadata.CPULevel)}
	in, err := newTensors(m.signature.Inputs, max(1, m.batch))
	defer release(in)
	if err != nil {
		return p, err
	}
	out, err := newTensors(m.signature.Outputs, max(1, m.batch))
	defer release(out)
	if err != nil {
		return p, err
	}
	best, err := m.time(in, out, 1)
	if err != nil {
		return p, err
	}
	for n := 2; best >= shareable && m.cores > 1 && m.options.Threads > 1; n *= 2 {
		n = min(n, m.options.Threads, m.cores)
		if err := ctx.Err(); err != nil {
			return p, err
		}
		t, err := m.time(in, out, n)
		if err != nil {
			return p, err
		}
		if float64(t) > worthwhile*float64(best) {
			break
		}
		best, m.threads = t, n
		if n == m.options.Threads || n == m.cores {
			break
		}
	}
	p.Inline = best < briefly
	return p, nil
}

// time is the shortest of a few runs of an instance with that many threads, which
// runs where the model is to run.
func (m *model) time(in, out []tensor.Tensor, threads int) (best time.Duration, err error) {
	do := func() { best, err = m.timeHere(in, out, threads) }
	if m.options.Bind != nil {
		m.options.Bind(do)
	} else {
		do()
	}
	return best, err
}

func (m *model) timeHere(in, out []tensor.Tensor, threads int) (time.Duration, error) {
	i, err := newInstance(m, threads)
	if err != nil {
		return 0, err
	}
	defer i.release()
	n := max(1, m.batch)
	best, began := time.Duration(0), time.Now()
	for run := 0; run <= measureRuns && (run < 2 || time.Since(began) < measureTime); run++ {
		start := time.Now()
		if err := i.run(in, out, 0, n, n, threads); err != nil {
			return 0, err
		}
		took := time.Since(start)
		if run > 0 && (best == 0 || took < best) { // the first pays for its memory
			best = max(1, took)
		}
		if took > measureTime {
			return took, nil
		}
	}
	return best, nil
}

// newTensors are tensors of zeros for so many rows. After an error those that were
// made are returned, too; the caller releases them.
func newTensors(specs []engine.TensorSpec, rows int) (made []tensor.Tensor, err error) {
	for n := range specs {
		shape, err := specs[n].Shape(rows)
		var t tensor.Tensor
		if err == nil {
			t, err = tensor.New(specs[n].Name, specs[n].DType, shape)
		}
		if err != nil {
			return made, fmt.Errorf("%w: %w", engine.ErrMemory, err)
		}
		clear(t.Bytes())
		made = append(made, t)
	}
	return made, nil
}

func release(tensors []tensor.Tensor) {
	for _, t := range tensors {
		t.Buffer.Release()
	}
}

package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// What tuning may cost, and what comes of it.
const (
	// tuningRun is the longest run that requests are put together for: whoever comes
	// while it is under way waits for it.
	tuningRun = 20 * time.Millisecond
	// tuningTime is how long runs of one size are timed, the shortest of which counts.
	tuningTime, tuningRuns = 3 * time.Millisecond, 30
	// tuningBytes bounds the tensors of one instance.
	tuningBytes = 64 << 20
	// tunedShare is what a batch has to reach of the most rows a second that were seen:
	// twice the rows for less than a tenth more of them are not worth the wait.
	tunedShare = 0.9
)

// timed is how long a run of so many rows takes.
type timed struct {
	rows int
	ns   int64
}

// tune measures how many rows of a model on GPUs are worth being run together, where
// the options do not say it: a run of a few rows costs there what one of hundreds does,
// and how many hundreds depends on the model and the GPU. It returns the options with
// what was found, and that in words. The model stays the caller's. A run that fails
// ends the measuring, as for lack of memory on the device; one of one row fails all.
func (c *choice) tune(ctx context.Context, i int, model Model) (o ModelOptions, found string, err error) {
	o = c.options
	if o.MaxBatchRows != 0 {
		return o, "", nil
	}
	t := &trial{choice: c, index: i, model: model}
	if t.signature, t.properties, err = describe(c.engine.log, c.name, model); err != nil {
		return o, "", err
	}
	most := t.properties.BatchRows
	if t.properties.MaxRows > 0 {
		most = min(most, t.properties.MaxRows)
	}
	if len(t.properties.Devices) == 0 || most <= 1 || !t.signature.Batchable() {
		return o, "", nil
	}
	perRow, err := t.signature.rowBytes()
	if err != nil {
		return o, "", err
	}
	most = max(1, min(most, tuningBytes/max(1, perRow)))
	// Models that are loaded together would measure each other.
	select {
	case c.engine.timing <- struct{}{}:
		defer func() { <-c.engine.timing }()
	case <-ctx.Done():
		return o, "", contextError(ctx.Err())
	}
	defer t.stop()
	if err := t.start(); err != nil {
		return o, "", err
	}
	in, err := ownTensors(model, t.signature.Inputs, most)
	if err != nil {
		return o, "", err
	}
	defer releaseAll(in)
	if t.out, err = ownTensors(model, t.signature.Outputs, most); err != nil {
		return o, "", err
	}
	sampleRandom(in)
	all, err := t.sizes(ctx, in, most)
	if err != nil {
		return o, "", err
	}
	o.MaxBatchRows = bestBatch(all)
	return o, describeTuning(all, o.MaxBatchRows), nil
}

// sizes times runs of ever more rows, up to the most that are worth looking at.
func (t *trial) sizes(ctx context.Context, in []tensor.Tensor, most int) (all []timed, err error) {
	for rows := 1; ; rows = min(2*rows, most) {
		if err := ctx.Err(); err != nil {
			return nil, contextError(err)
		}
		ns, err := t.shortest(in, rows)
		if err != nil && rows > 1 {
			t.choice.engine.log.Warn("larger batches were not tried: a run failed", "model", t.choice.name, "rows", rows, "error", err)
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, timed{rows, ns})
		if rows == most || ns > int64(tuningRun) {
			return all, nil
		}
	}
}

// shortest is how long the shortest of some runs takes, after one that pays for what
// is done once.
func (t *trial) shortest(in []tensor.Tensor, rows int) (best int64, err error) {
	if _, err := t.once(in, rows); err != nil {
		return 0, err
	}
	for spent, n := int64(0), 0; n < tuningRuns && (n == 0 || spent < int64(tuningTime)); n++ {
		ns, err := t.once(in, rows)
		if err != nil {
			return 0, err
		}
		spent += ns
		if best == 0 || ns < best {
			best = ns
		}
	}
	return best, nil
}

// bestBatch is the smallest of the sizes that reaches tunedShare of the most rows a
// second, of those whose runs are short enough, or the first.
func bestBatch(all []timed) int {
	rate := func(t timed) float64 { return float64(t.rows) / float64(t.ns) }
	highest := 0.0
	for _, t := range all {
		if t.ns <= int64(tuningRun) {
			highest = max(highest, rate(t))
		}
	}
	for _, t := range all {
		if t.ns <= int64(tuningRun) && rate(t) >= tunedShare*highest {
			return t.rows
		}
	}
	return all[0].rows
}

// describeTuning says what was measured, of sizes some way apart, and what comes of it.
func describeTuning(all []timed, batch int) string {
	var text strings.Builder
	last := 0
	for i, t := range all {
		if t.rows < 8*last && t.rows != batch && i != len(all)-1 {
			continue
		}
		last = t.rows
		if text.Len() > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%s in %v", plural(t.rows, "row"), time.Duration(t.ns).Round(100*time.Nanosecond))
	}
	return fmt.Sprintf("requests are put together to %s, as measured: %s", plural(batch, "row"), text.String())
}

// ownTensors are tensors for so many rows in memory of the model's own, or in ordinary
// memory where it has none, as requests will have them. The caller releases them.
func ownTensors(m Model, specs []TensorSpec, rows int) ([]tensor.Tensor, error) {
	own, is := m.(Allocator)
	if !is {
		return newTensors(specs, rows)
	}
	var made []tensor.Tensor
	for i := range specs {
		t, err := ownTensor(own, &specs[i], rows)
		if err != nil {
			releaseAll(made)
			return newTensors(specs, rows)
		}
		made = append(made, t)
	}
	return made, nil
}

func ownTensor(from Allocator, spec *TensorSpec, rows int) (tensor.Tensor, error) {
	shape, err := spec.Shape(rows)
	if err != nil {
		return tensor.Tensor{}, err
	}
	n, err := shape.ByteSize(spec.DType)
	if err != nil {
		return tensor.Tensor{}, err
	}
	return tensorFrom(from, spec, shape, n)
}

package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// What a calibration may cost. Two candidates of microseconds a row take 50 ms
// together; of a model that takes a second a row, each candidate runs one row.
const (
	// calibrationRows is on how many rows answers are compared and one row at a
	// time is timed: too many for a branch predictor to learn by heart.
	calibrationRows = 256
	// calibrationBytes bounds the tensors of one candidate.
	calibrationBytes = 16 << 20
	// calibrationTime is how long a candidate is timed, and about how long it may
	// take to give the answers that are compared.
	calibrationTime = 20 * time.Millisecond
	// turnTime is how long one candidate runs before it is the next one's turn:
	// long against a reading of the clock, short against a change of the
	// processor's frequency and against the patience of live requests.
	turnTime    = 100 * time.Microsecond
	maxTurnRuns = 4096
	maxTurns    = 2 * int(calibrationTime/turnTime)
	// longestRun is the longest run that is worth waiting for: larger requests
	// are timed with fewer rows.
	longestRun = time.Second
	// settlingTime is the longest first run, which pays for page faults and the
	// start of thread pools, that is followed by another to be believed.
	settlingTime = 10 * time.Millisecond
)

// clearlyFaster is how many times as fast as a better match a candidate has to
// be: differences below it come and go with the weather, and the choice should
// not.
const clearlyFaster = 1.05

// calibrate times the trials, two or more, best match first, which it takes
// over: all are closed but for the model of the one it returns. What it found is
// in c.candidates. The first is the reference and must run; any other that fails
// or disagrees with it has a Reason and is not chosen.
func (c *choice) calibrate(ctx context.Context, trials []*trial) (fastest *trial, err error) {
	open := slices.Clone(trials)
	defer func() {
		for _, t := range open {
			if t != fastest {
				t.close()
			}
		}
	}()
	select {
	case c.engine.timing <- struct{}{}:
		defer func() { <-c.engine.timing }()
	case <-ctx.Done():
		return nil, contextError(ctx.Err())
	}
	began := time.Now()
	for n := 0; n < len(open); n++ {
		if err := open[n].start(); err != nil {
			if n == 0 {
				return nil, c.starting(open[n].index, err)
			}
			c.drop(&open, n, err.Error())
			n--
		}
	}
	reference := open[0]
	in, each, err := c.typicalRows(open)
	if err != nil {
		return nil, c.starting(reference.index, err)
	}
	defer releaseAll(in)
	compared := 0
	for n := 0; n < len(open); n++ {
		t := open[n]
		if err := ctx.Err(); err != nil {
			return nil, contextError(err)
		}
		if n > 0 && !t.signature.Equal(reference.signature) {
			c.drop(&open, n, "not comparable: it takes or gives other tensors than "+reference.backend())
			n--
			continue
		}
		differs := ""
		rows, err := t.prove(in, each, func(rows int) bool {
			if n > 0 {
				differs = difference(t.out, reference.out, reference.signature.Outputs, min(rows, compared))
			}
			return differs == ""
		})
		switch {
		case err != nil && n == 0:
			return nil, c.starting(t.index, fmt.Errorf("timing it: %w", err))
		case err != nil:
			c.drop(&open, n, "failed while it was timed: "+err.Error())
			n--
		case differs != "":
			c.drop(&open, n, "its answers differ from those of "+reference.backend()+": "+differs)
			n--
		case n == 0:
			compared = rows
		}
	}
	if err := c.takeTurns(ctx, &open, in); err != nil {
		return nil, err
	}
	fastest = c.pick(open, each)
	fastest.stop()
	c.engine.log.Info("backends were timed", "model", c.name, "chosen", fastest.backend(), "us_per_row", c.candidates[fastest.index].USPerRow,
		"candidates", len(trials), "took", time.Since(began).Round(time.Microsecond))
	return fastest, nil
}

// drop closes open[n], which is out of the race, and says why.
func (c *choice) drop(open *[]*trial, n int, reason string) {
	t := (*open)[n]
	c.candidates[t.index].Reason = reason
	*open = slices.Delete(*open, n, n+1)
	t.close()
	c.engine.log.Warn("a backend is out of the race", "model", c.name, "url", c.artifact.URL, "backend", t.backend(), "reason", reason)
}

// typicalRows makes the rows that all trials are given, of the first one's
// signature, and their outputs. each is how many of them a timed run has. The
// caller releases in.
func (c *choice) typicalRows(trials []*trial) (in []tensor.Tensor, each int, err error) {
	s := &trials[0].signature
	rows := 1
	if s.Batchable() {
		each = c.options.ExpectedRows
		rows = max(calibrationRows, each)
		if perRow, err := s.rowBytes(); err != nil {
			return nil, 0, err
		} else if perRow > 0 {
			rows = max(1, min(rows, calibrationBytes/perRow))
		}
	}
	each = max(1, min(each, rows))
	if in, err = newTensors(s.Inputs, rows); err != nil {
		return nil, 0, err
	}
	c.fill(in, trials, rows)
	for _, t := range trials {
		if t.out, err = newTensors(t.signature.Outputs, rows); err != nil {
			releaseAll(in)
			return nil, 0, err
		}
	}
	return in, each, nil
}

// fill fills in with what the best of the models that are Samplers knows, else
// with random numbers.
func (c *choice) fill(in []tensor.Tensor, trials []*trial, rows int) {
	for _, t := range trials {
		sampler, ok := t.model.(Sampler)
		if !ok || !slices.EqualFunc(t.signature.Inputs, trials[0].signature.Inputs, func(x, y TensorSpec) bool { return x.equal(&y) }) {
			continue
		}
		if err := t.do(func() error { sampler.Sample(in, rows); return nil }); err == nil {
			return
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range in {
		fillRandom(in[i], random)
	}
}

// prove finds out how long a run takes and has t answer the rows of in, as many
// as its time allows, each of the ways in which they could be asked: all at once,
// one by one, and each at a time. same is called after every way and may end it.
// rows is how many were answered.
func (t *trial) prove(in []tensor.Tensor, each int, same func(rows int) bool) (rows int, err error) {
	all := 1
	if t.signature.Batchable() {
		all = int(in[0].Shape.Dim(0))
	}
	once := func(n int) (took int64, err error) {
		err = t.do(func() error {
			start := t.choice.engine.now()
			err := t.run(in, 0, n)
			took = t.choice.engine.now() - start
			return err
		})
		return took, err
	}
	one, err := once(1)
	if err == nil && one < int64(settlingTime) {
		one, err = once(1)
	}
	if err != nil {
		return 0, err
	}
	one = max(one, 1)
	t.each = int(max(1, min(int64(each), int64(longestRun)/one)))
	rows = int(max(1, min(int64(all), int64(calibrationTime)/one)))
	if !same(1) {
		return 1, nil
	}
	for _, size := range slices.Compact([]int{min(each, rows), 1, rows}) {
		if rows == 1 {
			break // answered above
		}
		if err := t.answer(in, rows, size); err != nil || !same(rows) {
			return rows, err
		}
	}
	if t.runNS = one; t.each > 1 {
		if t.runNS, err = once(t.each); err != nil {
			return rows, err
		}
	}
	if t.runNS > int64(calibrationTime) {
		t.spent, t.perRow = t.runNS, []float64{float64(t.runNS) / float64(t.each)}
	}
	return rows, nil
}

// takeTurns times the trials in turns, each turn in another order, until each
// has had its time. One that fails is dropped, but for the reference.
func (c *choice) takeTurns(ctx context.Context, open *[]*trial, in []tensor.Tensor) error {
	reference := (*open)[0]
	rows := 1
	if reference.signature.Batchable() {
		rows = int(in[0].Shape.Dim(0))
	}
	for round, busy := 0, true; busy && len(*open) > 1; round++ {
		busy = false
		for k := range *open {
			if err := ctx.Err(); err != nil {
				return contextError(err)
			}
			n := (round + k) % len(*open)
			t := (*open)[n]
			if t.done() {
				continue
			}
			busy = true
			if err := t.turn(in, rows); err != nil {
				if t == reference {
					return c.starting(t.index, fmt.Errorf("timing it: %w", err))
				}
				c.drop(open, n, "failed while it was timed: "+err.Error())
				break
			}
		}
	}
	return nil
}

// pick chooses among what was timed with that many rows a request, best match
// first, and says so.
func (c *choice) pick(timed []*trial, rows int) *trial {
	if len(timed) == 1 {
		c.candidates[timed[0].index].Reason = "chosen: it matches the artifact best, and nothing else that can run it agrees with it"
		return timed[0]
	}
	least := 0.0
	for i, t := range timed {
		us := t.usPerRow()
		c.candidates[t.index].USPerRow = us
		if i == 0 || us < least {
			least = us
		}
	}
	fastest := timed[slices.IndexFunc(timed, func(t *trial) bool { return c.candidates[t.index].USPerRow <= least*clearlyFaster })]
	for _, t := range timed {
		candidate := &c.candidates[t.index]
		us := fmt.Sprintf("%.*f µs", usDigits(candidate.USPerRow), candidate.USPerRow)
		switch {
		case t == fastest:
			candidate.Reason = fmt.Sprintf("chosen: the fastest of %d with %s a request", len(timed), plural(rows, "row"))
		case candidate.USPerRow <= c.candidates[fastest.index].USPerRow:
			candidate.Reason = fmt.Sprintf("not clearly faster (%s) than %s, which matches the artifact better", us, fastest.backend())
		default:
			candidate.Reason = fmt.Sprintf("slower (%s)", us)
		}
	}
	return fastest
}

// usDigits is how many digits of a number of microseconds mean anything.
func usDigits(us float64) int {
	if us < 100 {
		return 2
	}
	return 0
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

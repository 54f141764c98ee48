package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// What a calibration may cost. Two candidates of microseconds a row take 50 ms
// together; of a model that takes a second a row, each candidate runs one row.
const (
	// calibrationRows is on how many rows answers are compared and one row at a
	// time is timed: too many for a branch predictor to learn by heart, and no
	// multiple of a vector, so that what a kernel does with the last rows of a batch
	// is compared as well.
	calibrationRows = 251
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
	// longestTiming is how long the turns of all may take together, with the waits
	// between them, which on a busy host are many times as long as the turns.
	longestTiming = 500 * time.Millisecond
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

// calibration is the timing of the candidates of one load.
type calibration struct {
	*choice
	reference *trial   // the best match, which must run
	running   []*trial // the reference and those that can still win, best match first
	in        []tensor.Tensor
	rows      int // in in
	each      int // rows of a timed run
	compared  int // rows that the reference has answered
}

// disagreement is why a candidate that runs cannot be chosen. It follows from the
// artifact, unlike other errors, which may not happen the next time.
type disagreement string

func (d disagreement) Error() string { return string(d) }

// calibrate times the trials, two or more, best match first, which it takes
// over: all are closed but for the model of the one it returns. What it found is
// in c.candidates.
func (c *choice) calibrate(ctx context.Context, trials []*trial) (fastest *trial, err error) {
	began := time.Now()
	k := &calibration{choice: c, reference: trials[0], running: slices.Clone(trials)}
	defer func() {
		releaseAll(k.in)
		for _, t := range k.running {
			if t != fastest {
				t.close()
			}
		}
	}()
	if err := k.all(ctx, k.enter); err != nil {
		return nil, err
	}
	if err := k.makeRows(); err != nil {
		return nil, c.starting(k.reference.index, err)
	}
	if err := k.all(ctx, k.compare); err != nil {
		return nil, err
	}
	end := c.engine.now() + int64(longestTiming)
	for again := true; again && len(k.running) > 1; again = again && c.engine.now() < end {
		again = false
		if err := k.all(ctx, func(t *trial) error {
			if t.done() {
				return nil
			}
			again = true
			return t.turn(k.in, k.rows)
		}); err != nil {
			return nil, err
		}
	}
	fastest = k.pick()
	fastest.stop()
	c.engine.log.Info("backends were timed", "model", c.name, "chosen", fastest.backend(),
		"us_per_row", math.Round(c.candidates[fastest.index].USPerRow*1000)/1000,
		"candidates", len(trials), "took", time.Since(began).Round(time.Microsecond))
	return fastest, nil
}

// all has every running trial do something, one after the other. One that fails
// is closed, with the reason in its candidate; if it is the reference, all fails.
func (k *calibration) all(ctx context.Context, do func(*trial) error) error {
	for _, t := range slices.Clone(k.running) {
		if err := ctx.Err(); err != nil {
			return contextError(err)
		}
		err := do(t)
		if err == nil {
			continue
		}
		if t == k.reference {
			return k.starting(t.index, fmt.Errorf("timing it: %w", err))
		}
		reason := err.Error()
		if errors.As(err, new(disagreement)) {
			reason = "not chosen: " + reason
		} else {
			reason = "failed while it was timed: " + reason
			k.unsettled = true
		}
		k.candidates[t.index].Reason = reason
		k.engine.log.Warn("a backend is out of the race", "model", k.name, "url", k.artifact.URL, "backend", t.backend(), "reason", reason)
		k.running = slices.DeleteFunc(k.running, func(o *trial) bool { return o == t })
		t.close()
	}
	return nil
}

// enter starts t, which must take and give what the reference does.
func (k *calibration) enter(t *trial) error {
	if err := t.start(); err != nil {
		return err
	}
	if !t.signature.Equal(k.reference.signature) {
		return disagreement("it takes or gives other tensors than " + k.reference.backend())
	}
	return nil
}

// makeRows makes the rows that all trials are given, and room for their answers.
func (k *calibration) makeRows() error {
	s := &k.reference.signature
	k.rows, k.each = 1, 1
	if s.Batchable() {
		perRow, err := s.rowBytes()
		if err != nil {
			return err
		}
		k.rows = max(1, min(max(calibrationRows, k.options.ExpectedRows|1), calibrationBytes/max(1, perRow)))
		k.each = min(k.options.ExpectedRows, k.rows)
	}
	var err error
	if k.in, err = newTensors(s.Inputs, k.rows); err != nil {
		return err
	}
	for _, t := range k.running {
		if t.out, err = newTensors(s.Outputs, k.rows); err != nil {
			return err
		}
	}
	k.fill()
	return nil
}

// fill fills k.in with what the best match that is a Sampler knows, else with
// random numbers.
func (k *calibration) fill() {
	for _, t := range k.running {
		if sampler, ok := t.model.(Sampler); ok {
			if err := t.do(func() error { sampler.Sample(k.in, k.rows); return nil }); err == nil {
				return
			}
		}
	}
	sampleRandom(k.in)
}

// compare finds out how long t takes, and has it answer as the reference does.
func (k *calibration) compare(t *trial) error {
	rows, err := t.prove(k.in, k.rows, k.each, func(rows int) error {
		if t == k.reference {
			return nil
		}
		differs := difference(t.out, k.reference.out, t.signature.Outputs, min(rows, k.compared))
		if differs != "" {
			return disagreement("its answers differ from those of " + k.reference.backend() + ": " + differs)
		}
		return nil
	})
	if t == k.reference {
		k.compared = rows
	}
	return err
}

// prove finds out how long a run takes and has t answer the rows of in, as many
// as its time allows, in each of the ways in which they could be asked: all at
// once, one by one, and each at a time. check is called after every way with the
// number of rows that are answered, and its error ends it. It returns how many
// rows were answered.
func (t *trial) prove(in []tensor.Tensor, all, each int, check func(rows int) error) (rows int, err error) {
	t.spoil()
	one, err := t.once(in, 1)
	if err == nil && one < int64(settlingTime) {
		one, err = t.once(in, 1)
	}
	if err == nil {
		err = check(1)
	}
	if err != nil {
		return 0, err
	}
	t.each = int(max(1, min(int64(each), int64(longestRun)/one)))
	rows = int(max(1, min(int64(all), int64(calibrationTime)/one)))
	if rows > 1 {
		for _, size := range slices.Compact([]int{min(each, rows), 1, rows}) {
			t.spoil()
			if err = t.answer(in, rows, size); err == nil {
				err = check(rows)
			}
			if err != nil {
				return 0, err
			}
		}
	}
	if t.runNS = one; t.each > 1 {
		if t.runNS, err = t.once(in, t.each); err != nil {
			return 0, err
		}
	}
	if t.runNS >= int64(calibrationTime) { // it was timed by that
		t.spent, t.perRow = t.runNS, []float64{float64(t.runNS) / float64(t.each)}
	}
	return rows, nil
}

// pick chooses among what was timed and says so.
func (k *calibration) pick() *trial {
	if len(k.running) == 1 {
		k.candidates[k.reference.index].Reason = matchesBest + ", and no other was fit to be timed against it"
		return k.reference
	}
	least := 0.0
	for i, t := range k.running {
		us := t.usPerRow()
		k.candidates[t.index].USPerRow = us
		if i == 0 || us < least {
			least = us
		}
	}
	fastest := k.running[slices.IndexFunc(k.running, func(t *trial) bool { return k.candidates[t.index].USPerRow <= least*clearlyFaster })]
	for _, t := range k.running {
		candidate := &k.candidates[t.index]
		us := fmt.Sprintf("%.*f µs", usDigits(candidate.USPerRow), candidate.USPerRow)
		switch {
		case t == fastest:
			candidate.Reason = fmt.Sprintf("chosen: the fastest of %d with %s a request", len(k.running), plural(k.each, "row"))
		case candidate.USPerRow <= k.candidates[fastest.index].USPerRow:
			candidate.Reason = fmt.Sprintf("not clearly faster (%s) than %s, which matches the artifact better", us, fastest.backend())
		default:
			candidate.Reason = fmt.Sprintf("slower (%s)", us)
		}
	}
	return fastest
}

// usDigits is how many decimals of a number of microseconds mean anything.
func usDigits(us float64) int {
	switch {
	case us < 1:
		return 3
	case us < 100:
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

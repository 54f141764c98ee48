package engine

import (
	"fmt"
	"slices"

	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// trial is a candidate while it is being timed: an opened model with one
// instance. It owns both until the model is taken for a Snapshot. Its methods
// are for one goroutine; the instance is called from another, which stays on one
// OS thread where the model wants that, as a worker's does.
type trial struct {
	choice *choice
	index  int // of the candidate
	model  Model

	signature  Signature
	properties Properties
	instance   Instance
	tasks      chan func() // for the instance's goroutine, which ends with it

	out             []tensor.Tensor // its answers to the rows of the calibration
	viewIn, viewOut []tensor.Tensor // the part of the rows being run

	each   int       // rows of a timed run
	runNS  int64     // what one such run took at first
	at     int       // where the next timed run starts
	spent  int64     // nanoseconds of timed runs
	perRow []float64 // nanoseconds per row, of each turn
}

func (t *trial) backend() string { return t.choice.candidates[t.index].Backend }

// start checks what the model says of itself and makes the instance.
func (t *trial) start() error {
	var err error
	if t.signature, t.properties, err = describe(t.choice.engine.log, t.choice.name, t.model); err != nil {
		return err
	}
	t.choice.candidates[t.index].Variant = t.properties.Variant
	if _, err = settle(t.choice.options, t.signature, &t.properties, t.choice.cores, t.choice.engine.host); err != nil {
		return err
	}
	t.viewIn, t.viewOut = make([]tensor.Tensor, len(t.signature.Inputs)), make([]tensor.Tensor, len(t.signature.Outputs))
	t.tasks = make(chan func())
	work := func() {
		for task := range t.tasks {
			task()
		}
	}
	if t.properties.bound() {
		go hw.OnOwnThread(work) // as worker.serve
	} else {
		go work()
	}
	return t.do(func() (err error) {
		if err := t.choice.cores.keepThread(); err != nil {
			return err
		}
		if t.instance, err = t.model.NewInstance(); err != nil {
			return fmt.Errorf("making an instance: %w", err)
		}
		return nil
	})
}

// do has the instance's goroutine do something and waits for it. A panic is an
// error.
func (t *trial) do(something func() error) (err error) {
	done := make(chan struct{})
	t.tasks <- func() {
		defer close(done)
		defer contain(t.choice.engine.log, t.choice.name, &err)
		err = something()
	}
	<-done
	return err
}

// run runs rows at to at+n of in into the same rows of t.out, in parts where
// the model cannot take them at once. It is called on the instance's goroutine.
func (t *trial) run(in []tensor.Tensor, at, n int) error {
	limit := t.properties.MaxRows
	if limit == 0 || limit > n {
		limit = n
	}
	for end := at + n; at < end; at += limit {
		n := min(limit, end-at)
		view(t.viewIn, in, t.signature.Inputs, at, n)
		view(t.viewOut, t.out, t.signature.Outputs, at, n)
		if err := t.instance.Run(t.viewIn, t.viewOut, n); err != nil {
			return fmt.Errorf("%w: %w", ErrRun, err)
		}
	}
	return nil
}

// once runs the first n rows of in and tells how long that took, at least 1 ns.
func (t *trial) once(in []tensor.Tensor, n int) (ns int64, err error) {
	err = t.do(func() error {
		start := t.choice.engine.now()
		err := t.run(in, 0, n)
		ns = max(1, t.choice.engine.now()-start)
		return err
	})
	return ns, err
}

// spoil makes the answers such as no model gives. Without it, what a run does not
// write would be right because the one before it was.
func (t *trial) spoil() {
	for i := range t.out {
		b := t.out[i].Bytes()
		for j := range b {
			b[j] = 0x7f // of every type an odd or a huge number
		}
	}
}

// answer runs the first n rows of in, each at a time.
func (t *trial) answer(in []tensor.Tensor, n, each int) error {
	return t.do(func() error {
		for at := 0; at < n; at += each {
			if err := t.run(in, at, min(each, n-at)); err != nil {
				return err
			}
		}
		return nil
	})
}

// turn times runs of t.each rows, one after the other, for about turnTime, and
// at least one.
func (t *trial) turn(in []tensor.Tensor, rows int) error {
	return t.do(func() error {
		runs := max(1, min(maxTurnRuns, int(int64(turnTime)/t.runNS)))
		start := t.choice.engine.now()
		for range runs {
			if t.at+t.each > rows {
				t.at = 0
			}
			if err := t.run(in, t.at, t.each); err != nil {
				return err
			}
			t.at += t.each
		}
		took := t.choice.engine.now() - start
		t.spent += took
		t.perRow = append(t.perRow, float64(took)/float64(runs*t.each))
		return nil
	})
}

// done tells whether it was timed for as long as it is worth.
func (t *trial) done() bool { return t.spent >= int64(calibrationTime) || len(t.perRow) >= maxTurns }

// usPerRow is the lower quartile of the turns, in microseconds: on a busy host the
// median still has much of what else was going on.
func (t *trial) usPerRow() float64 {
	slices.Sort(t.perRow)
	return t.perRow[len(t.perRow)/4] / 1e3
}

// stop closes the instance and ends its goroutine; the model stays open.
func (t *trial) stop() {
	releaseAll(t.out)
	t.out = nil
	if t.tasks == nil {
		return
	}
	if t.instance != nil {
		_ = t.do(func() error { // it fails in the log alone
			closing(t.choice.engine.log, "instance", t.choice.name, t.backend(), t.instance)
			return nil
		})
		t.instance = nil
	}
	close(t.tasks)
	t.tasks = nil
}

// close closes the instance and the model.
func (t *trial) close() {
	t.stop()
	closing(t.choice.engine.log, "model", t.choice.name, t.backend(), t.model)
}

func closeTrials(trials []*trial) {
	for _, t := range trials {
		t.close()
	}
}

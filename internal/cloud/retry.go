package cloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Policy bounds how Retry goes on. Its zero value is DefaultPolicy.
type Policy struct {
	// First and Longest are the shortest and the longest pause, which doubles from one
	// to the other. Each pause is between half of it and all of it, so that a fleet
	// does not come back as one.
	First, Longest time.Duration
	// Patience is how long to go on without success; 0 for ever. What succeeded in part
	// says so with Progress.
	Patience time.Duration
	// Report is told of each failure that is followed by a pause; nil for nobody.
	Report func(err error, pause time.Duration)
}

// DefaultPolicy is gentle enough for an outage of days: one attempt in 2.5 minutes once it has backed off.
func DefaultPolicy() Policy {
	return Policy{First: time.Second, Longest: 5 * time.Minute}
}

// progressError is an error of an attempt that got somewhere.
type progressError struct{ error }

func (e progressError) Unwrap() error { return e.error }

// Progress marks an error of an attempt that got further than the one before: pauses
// and patience begin anew. A nil error stays nil.
func Progress(err error) error {
	if err == nil {
		return nil
	}
	return progressError{err}
}

// Retry calls try until it succeeds, until it fails in a way that does not pass, until
// patience ends or ctx does. The error is that of the last try, as Explain has it. One
// try runs at a time, on the caller's goroutine.
func Retry(ctx context.Context, p Policy, try func(context.Context) error) error {
	if p.First <= 0 || p.Longest < p.First {
		d := DefaultPolicy()
		p.First, p.Longest = d.First, max(d.Longest, d.First)
	}
	pause, began := p.First, time.Now()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if got := (progressError{}); errors.As(err, &got) {
			err, pause, began = got.error, p.First, time.Now()
		}
		err = Explain(err)
		if !Temporary(err) || ctx.Err() != nil {
			return err
		}
		wait := pause/2 + rand.N(pause/2+1)
		if left := p.Patience - time.Since(began); p.Patience > 0 {
			if left <= 0 {
				return fmt.Errorf("%w; given up after %v", err, p.Patience)
			}
			wait = min(wait, left)
		}
		if p.Report != nil {
			p.Report(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause = min(2*pause, p.Longest)
	}
}

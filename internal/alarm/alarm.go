// Package alarm waits for a time without one of Go's timers. While any of those is pending, in whatever goroutine and for however long,
// the thread that waits for connections does so with a timeout, and sets up a clock of the kernel's for it with each request that comes:
// half a microsecond of each.
package alarm

import (
	"context"
	"math"
	"time"
)

// Alarm wakes whoever receives from its channel. Its methods are for one goroutine.
type Alarm struct {
	c     chan struct{}
	set   func(d time.Duration)
	close func()
}

// C has a token when the time has come that Set was told last, and rarely before: whoever gets one looks whether it is so.
func (a *Alarm) C() <-chan struct{} { return a.c }

// Set has C get a token after that time; whatever was set before is forgotten.
func (a *Alarm) Set(d time.Duration) { a.set(max(d, 1)) }

// Close ends the Alarm. C gets nothing more.
func (a *Alarm) Close() { a.close() }

func (a *Alarm) ring() {
	select {
	case a.c <- struct{}{}:
	default:
	}
}

// New makes an Alarm with nothing set. Where the system has no other clock that can be waited for, or none left, it is OfRuntime.
func New() *Alarm {
	a := &Alarm{c: make(chan struct{}, 1)}
	if !a.ofSystem() {
		return OfRuntime()
	}
	return a
}

// OfRuntime makes an Alarm that is one of Go's timers: for where requests do not matter, and where Go's clock is not the host's, as in
// testing/synctest.
func OfRuntime() *Alarm {
	a := &Alarm{c: make(chan struct{}, 1)}
	timer := time.AfterFunc(math.MaxInt64, a.ring)
	timer.Stop()
	a.set = func(d time.Duration) { timer.Reset(d) }
	a.close = func() { timer.Stop() }
	return a
}

// After is time.After by an Alarm, until ctx ends.
func After(ctx context.Context, d time.Duration) <-chan time.Time {
	a, c := New(), make(chan time.Time, 1)
	a.Set(d)
	go func() {
		defer a.Close()
		select {
		case <-a.C():
			c <- time.Now()
		case <-ctx.Done():
		}
	}()
	return c
}

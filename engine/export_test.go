package engine

import "time"

// SetClock replaces the clock that backends are timed with, in nanoseconds. It is
// called before the first load.
func (e *Engine) SetClock(now func() int64) { e.now = now }

// StartClock has the engine's clock count from now, in the time of a bubble of
// testing/synctest, until the returned function is called.
func StartClock() (restore func()) {
	before := epoch
	epoch = time.Now()
	return func() { epoch = before }
}

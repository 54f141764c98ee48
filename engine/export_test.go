package engine

// SetClock replaces the clock that backends are timed with, in nanoseconds. It is
// called before the first load.
func (e *Engine) SetClock(now func() int64) { e.now = now }

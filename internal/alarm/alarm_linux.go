package alarm

import "time"

// ofSystem has the alarm be a Clock.
func (a *Alarm) ofSystem() bool {
	clock, err := NewClock()
	if err != nil {
		return false
	}
	if clock.file.SetDeadline(time.Time{}) != nil { // it is not in Go's poller: to wait for it would take a thread
		_ = clock.Close()
		return false
	}
	a.set = func(d time.Duration) { _ = clock.Set(d) } // it fails for times that are none, which this is not
	a.close = func() { _ = clock.Close() }             // nothing was written
	go func() {
		for clock.Wait() == nil {
			a.ring()
		}
	}()
	return true
}

package ring

import "time"

// The rest of a frame that is larger than what is under way at a time comes piece by
// piece, and each piece after the time that a copy takes, which is shorter by far than
// going to sleep and being woken. So whoever waits in the middle of such a frame, for
// more of it or for room, looks first. The other side may not have a processor just
// then: after a look in vain the next waits are slept through at once.
const (
	// longestRest is some times what copying a piece takes.
	longestRest = 25_000
	// vainPause is how many waits are slept through after a look in vain.
	vainPause = 16
)

// Rest is what one direction knows of how soon the rest of its frames comes. It is for
// one goroutine at a time.
type Rest struct{ pause int }

// Look reports whether there was what the caller waits for soon enough for it not to
// sleep; not looking is no. Nobody looks with a nil *Spins.
func (r *Rest) Look(s *Spins, there func() bool) bool {
	if r.pause > 0 {
		r.pause--
		return false
	}
	if !s.enter() {
		return false
	}
	defer s.leave()
	for end := clock() + longestRest; clock() < end; {
		if there() {
			return true
		}
	}
	r.pause = vainPause
	return false
}

// epoch is what clock counts from.
var epoch = time.Now()

// clock is the monotonic time in nanoseconds.
func clock() int64 { return int64(time.Since(epoch)) }

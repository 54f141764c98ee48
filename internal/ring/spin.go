package ring

import "sync/atomic"

// Going to sleep and being woken costs the two sides some microseconds of
// processor time, and the one who waits much more than that until its processor is
// awake again. A side that looks again and again instead saves both if the bytes
// come soon, and burns what it has if they do not. Nobody knows which it will be.
// So looking is paid for: a receiver earns what it saved when bytes came while it
// looked, pays for the time, and looks only while it has something left, but for
// one attempt in a while to find out whether the times have changed. It thus never
// burns more than it has saved, by more than those attempts.
const (
	// sleepCost is what going to sleep and being woken costs both sides, in
	// nanoseconds of processor time: two calls of the kernel and two switches.
	sleepCost = 5000
	// longestSpin: who waited as long as sleeping would have cost stops.
	longestSpin = sleepCost
	// mostSaved bounds what can be burned when bytes cease to come soon.
	mostSaved = 20 * sleepCost
	// attemptEvery is how many waits pass between attempts without means.
	attemptEvery = 64
	// looksPerClock: reading the clock takes as long as some dozen looks.
	looksPerClock = 32
)

// Spins bounds how many receivers of a process look for bytes at a time: one
// processor is left for those whose work they wait for. A nil *Spins allows none.
type Spins struct {
	most int32
	now  atomic.Int32
}

// NewSpins is for a process that may use so many processors.
func NewSpins(processors int) *Spins { return &Spins{most: int32(max(processors-1, 0))} }

func (s *Spins) enter() bool {
	if s == nil {
		return false
	}
	if s.now.Add(1) <= s.most {
		return true
	}
	s.now.Add(-1)
	return false
}

func (s *Spins) leave() { s.now.Add(-1) }

// purse is what a receiver has saved, less what it has burned.
type purse struct {
	saved int64 // nanoseconds
	waits uint32
}

// affords tells whether the receiver may look now; if so, it calls spent after.
func (p *purse) affords(s *Spins) bool {
	if p.waits++; p.saved <= 0 && p.waits%attemptEvery != 0 {
		return false
	}
	return s.enter()
}

// spent accounts for a time of looking.
func (p *purse) spent(s *Spins, took int64, came bool) {
	s.leave()
	p.saved -= took
	if came {
		p.saved += sleepCost
	}
	p.saved = min(max(p.saved, 0), mostSaved)
}

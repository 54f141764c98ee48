package ring

import "sync/atomic"

// Going to sleep and being woken costs the two sides tens of microseconds of
// processor time, and the one who waits about as much again until its processor is
// awake. A side that looks again and again instead saves both if the bytes come
// soon, and burns what it has if they do not. Nobody knows which it will be. So
// looking is paid for: a receiver earns a sleep's cost when bytes came while it
// looked, and pays for the time. Besides it is given a little for each wait, and
// when that has become enough it looks for as long as that lasts, to find out
// whether the times have changed. It thus never burns more than it saves, by more
// than that little.
//
// Where both sides share a processor, looking only keeps the other from it. There a
// side yields: it stays ready to run while the other does, and neither has to be put to
// sleep and woken. If somebody else takes the processor instead, that may last a turn
// of the scheduler's, and until so much is earned again it sleeps. So yielding has a
// purse of its own, and is tried where looking is not worth it.
//
// Both sides of a conversation wait equally often, so they have enough at the same
// time: it takes both to look before neither has to be woken.
const (
	// sleepCost is what going to sleep and being woken costs both sides, in
	// nanoseconds of processor time: the calls of the kernel, the switches, the
	// interrupt between processors, and what the runtime does about a thread that
	// blocks.
	sleepCost = 20_000
	// longestSpin is longer than it takes to wake the other side.
	longestSpin = 50_000
	// perWait is given for each wait.
	perWait = sleepCost / 20
	// enough is where looking begins, and the most that can be saved: what is burned
	// when bytes cease to come soon.
	enough = 2 * longestSpin
	// mostDebt is what is owed at most for one time of yielding.
	mostDebt = 5_000_000
	// looksPerClock: reading the clock takes as long as some dozen looks.
	looksPerClock = 32
)

// Spins bounds how many receivers of a process look for bytes, or wait unseen, at a time: one
// processor is left for those whose work they wait for. A nil *Spins allows none.
type Spins struct {
	most   int32
	now    count
	places count // taken
	crowd  crowd
}

// count is how many there are of something that is bounded.
type count struct{ atomic.Int32 }

// take counts one more, or reports that there are as many as may be.
func (c *count) take(most int32) bool {
	if c.Add(1) <= most {
		return true
	}
	c.Add(-1)
	return false
}

// NewSpins is for a process that may use so many processors.
func NewSpins(processors int) *Spins { return &Spins{most: int32(max(processors-1, 0))} }

func (s *Spins) enter() bool { return s != nil && s.now.take(s.most) }

func (s *Spins) leave() { s.now.Add(-1) }

// purse is what a receiver may spend on waiting in one way.
type purse struct {
	saved  int64 // nanoseconds; negative where they are owed
	credit int64 // how many may be owed
	open   bool  // from when there is enough until there is nothing
}

// affords is called for each wait, and tells whether the receiver may wait so; if it
// does, it calls spent after.
func (p *purse) affords() bool {
	if p.saved = min(p.saved+perWait, enough); p.saved == enough {
		p.open = true
	}
	return p.open
}

// spent accounts for a time of waiting.
func (p *purse) spent(took int64, came bool) {
	p.saved -= took
	if came {
		p.saved += sleepCost
	}
	if p.saved = min(max(p.saved, -p.credit), enough); p.saved <= 0 {
		p.open = false
	}
}

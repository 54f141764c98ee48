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
	// mostDebt is what is owed at most for one time of yielding.
	mostDebt = 5_000_000
	// looksPerClock: reading the clock takes as long as some dozen looks.
	looksPerClock = 32
)

// Terms are on what terms a receiver looks.
type Terms struct {
	longest int64 // nanoseconds: longer than it takes to wake the other side
	gift    int64 // for each wait
}

// enough is where looking begins, and the most that can be saved: what is burned when
// bytes cease to come soon.
func (t *Terms) enough() int64 { return 2 * t.longest }

var (
	// InRing is for those who look at memory.
	InRing = Terms{longest: 50_000, gift: sleepCost / 20}
	// OnSocket is for those who ask the kernel, while others may wait for many answers: fewer than one in a hundred is to be late because somebody has
	// looked in vain.
	OnSocket = Terms{longest: 25_000, gift: sleepCost / 200}
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

// Purses are what a receiver may spend on not going to sleep.
type Purses struct{ looking, yielding purse }

// NewPurses have nothing in them yet.
func NewPurses(t *Terms) Purses {
	return Purses{looking: purse{terms: t}, yielding: purse{terms: t, credit: mostDebt}}
}

// Await reports whether what the caller waits for came before it has to sleep. It is called for each wait, and calls
// came again and again, or after others had the processor, if one of the purses has enough for that. With nil for s it does neither.
func (p *Purses) Await(s *Spins, came func() bool) (did bool) {
	switch {
	case p.looking.affords() && s.enter():
		start := clock()
		took := int64(0)
		for took < p.looking.terms.longest && !did {
			for range looksPerClock {
				if did = came(); did {
					break
				}
			}
			took = clock() - start
		}
		s.leave()
		p.looking.spent(took, did)
	case p.yielding.affords() && s != nil:
		if did = came(); did {
			break
		}
		start := clock()
		yield()
		did = came()
		p.yielding.spent(clock()-start, did)
	}
	return did
}

// purse is what a receiver may spend on waiting in one way.
type purse struct {
	saved  int64 // nanoseconds; negative where they are owed
	terms  *Terms
	credit int64 // how many may be owed
	open   bool  // from when there is enough until there is nothing
}

// affords is called for each wait, and tells whether the receiver may wait so; if it
// does, it calls spent after.
func (p *purse) affords() bool {
	if p.saved = min(p.saved+p.terms.gift, p.terms.enough()); p.saved == p.terms.enough() {
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
	if p.saved = min(max(p.saved, -p.credit), p.terms.enough()); p.saved <= 0 {
		p.open = false
	}
}

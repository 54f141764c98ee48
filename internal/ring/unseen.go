package ring

import (
	"runtime/metrics"
	"sync"
	"time"
)

// A message on a socket wakes more than the goroutine that waits for it. Go's scheduler has a thread wait for all sockets, which looks for a
// processor when something comes, and has the runtime's watchdog sleep while all processors are idle, so that it is woken with the
// first that is not. That is two or three threads for a request that takes a microsecond to answer.
//
// So a side whose waits have been short again and again waits in the kernel without the scheduler's knowing: to that the thread computes. What
// that costs is a processor which the scheduler cannot give to others meanwhile. So only as many threads do it, or look, as
// leave one processor free (Spins); only for a moment at a time; and not while goroutines wait for a processor.
// Whoever stops the program for a moment, as a collection of garbage does, interrupts the wait by a signal.
const (
	// shortWait is what a side that asks again as soon as it is answered stays below, also where waking a processor takes long.
	shortWait = 200 * time.Microsecond
	// oftenShort is how many waits in a row are to be short.
	oftenShort = 64
	// LongestUnseen is how long a wait is to be unseen at most.
	LongestUnseen = time.Millisecond
	// pause is how many waits more after a Pause.
	pause = 256
	// freshness is how old what is known of the scheduler's queues may be, in nanoseconds.
	freshness = 1_000_000
)

// Unseen is what a goroutine knows of its waits for the other side, one after the other, to decide which ones the scheduler is not told of. It is for
// one goroutine at a time.
type Unseen struct {
	short int // waits in a row that were short; negative after a Pause
}

// Often tells whether so many waits in a row were short that it is worth some trouble to have the next ones unseen.
func (u *Unseen) Often() bool { return u.short >= oftenShort }

// Last tells whether the last wait was short, so that the next one probably is.
func (u *Unseen) Last() bool { return u.short > 0 }

// Waited is told how long each wait took, seen or not.
func (u *Unseen) Waited(took time.Duration) {
	if took < shortWait {
		u.short = min(u.short+1, oftenShort)
	} else {
		u.short = min(u.short, 0)
	}
}

// Pause has the next waits be seen, some hundred that are short: there is no room, or so much to be done with what comes that waiting is not what matters.
func (u *Unseen) Pause() { u.short = -pause }

// IsPaused tells whether that was not long ago.
func (u *Unseen) IsPaused() bool { return u.short < 0 }

// TakePlace takes one of the places of those who wait unseen between their requests, if there is room. There are as many as may wait so at a time.
func (s *Spins) TakePlace() bool { return s.HasRoom() && s.places.take(s.most) }

// GivePlace gives a place back.
func (s *Spins) GivePlace() { s.places.Add(-1) }

// HasRoom tells whether one more may wait unseen: fewer than may do, and no goroutine waits for a processor.
func (s *Spins) HasRoom() bool { return s != nil && s.now.Load() < s.most && !s.crowd.isThere() }

// crowd is what is known of the goroutines that wait for a processor of the scheduler's.
type crowd struct {
	mu      sync.Mutex
	looked  int64
	sample  [1]metrics.Sample
	waiting bool // some did when it was looked last
	there   bool // and the time before
}

// isThere asks the runtime once in a while, and believes it the second time: one that waits at a moment may just have been woken, and has another
// processor in the next. Whoever comes while another asks takes it that there is no crowd.
func (c *crowd) isThere() bool {
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if now := clock(); now-c.looked >= freshness || c.looked == 0 {
		c.looked = now
		c.sample[0].Name = "/sched/goroutines/runnable:goroutines"
		metrics.Read(c.sample[:])
		waiting := c.sample[0].Value.Kind() == metrics.KindUint64 && c.sample[0].Value.Uint64() > 0
		c.there, c.waiting = waiting && c.waiting, waiting
	}
	return c.there
}

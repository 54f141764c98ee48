package capture

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/engine"
)

// item is a request that the writer has to write down.
type item struct {
	request *engine.Request
	model   *modelTap
	why     Why
	chosen  uint64
	every   bool // part is chosen, for why; their own reasons are not filled in
	size    int64
	err     error
	at      time.Time // of one that failed
}

// ring is a bounded queue of items, for any number of goroutines that push and one that
// pops. Neither waits for the other. Each slot has a turn: a pusher may fill it when the
// turn is its position, and the popper empty it when it is one more.
type ring struct {
	slots  []slot
	mask   uint64
	enough uint64
	_      [64]byte
	tail   atomic.Uint64 // of pushers
	_      [64]byte
	head   uint64 // of the popper
}

type slot struct {
	turn atomic.Uint64
	item item
}

// init makes room for at least n items.
func (r *ring) init(n int) {
	size := 1 << bits.Len(uint(max(n, 2)-1))
	r.slots, r.mask, r.enough = make([]slot, size), uint64(size-1), uint64(min(mostWaiting, size/2))
	for i := range r.slots {
		r.slots[i].turn.Store(uint64(i))
	}
}

// push adds an item unless there is no room, and tells whether as many wait as are enough to be popped.
func (r *ring) push(it *item) (pushed, enough bool) {
	at := r.tail.Load()
	for {
		s := &r.slots[at&r.mask]
		switch turn := s.turn.Load(); {
		case turn == at:
			if r.tail.CompareAndSwap(at, at+1) {
				s.item = *it
				s.turn.Store(at + 1)
				first := at - r.enough
				return true, at >= r.enough && r.slots[first&r.mask].turn.Load() == first+1
			}
			at = r.tail.Load()
		case turn < at:
			return false, false // the popper is a whole ring behind
		default:
			at = r.tail.Load()
		}
	}
}

// pop takes the oldest item, if there is one.
func (r *ring) pop(it *item) bool {
	s := &r.slots[r.head&r.mask]
	if s.turn.Load() != r.head+1 {
		return false
	}
	*it = s.item
	s.item = item{}
	s.turn.Store(r.head + r.mask + 1)
	r.head++
	return true
}

// empty tells whether pop would find nothing.
func (r *ring) empty() bool { return r.slots[r.head&r.mask].turn.Load() != r.head+1 }

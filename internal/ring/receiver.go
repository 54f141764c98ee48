//go:build linux

package ring

import (
	"io"
	"os"
	"sync/atomic"
	"time"
)

// Receiver is the direction that this side reads.
type Receiver struct {
	direction
	ring     *Ring
	spins    *Spins
	purses   Purses
	at       uint32       // what was read, counted as the shared words count
	deadline atomic.Int64 // of clock; 0 for none
	rest     Rest
	arrived  func() bool // Arrived, kept because making it allocates
	waits    atomic.Bool // Wait sleeps or is about to: what this side knows itself, whatever the other makes of the shared word
}

// Wait returns when there are bytes to take. It fails with io.EOF when there are
// none and the Ring was closed, with os.ErrDeadlineExceeded, and with ErrCorrupt.
func (r *Receiver) Wait() error {
	if ready, err := r.ready(); ready || err != nil {
		return err
	}
	if r.purses.Await(r.spins, r.arrived) {
		if ready, err := r.ready(); ready || err != nil {
			return err
		}
	}
	r.waits.Store(true)
	defer r.waits.Store(false)
	for {
		r.readerSleeps.Store(1)
		// After the word is set, so that whoever writes, closes, or sets a deadline
		// from now on wakes this side.
		ready, err := r.ready()
		if ready || err != nil {
			r.readerSleeps.Store(0)
			return err
		}
		most := longestSleep
		if at := r.deadline.Load(); at != 0 {
			most = max(time.Duration(at-clock()), 1)
		}
		sleep(r.readerSleeps, most)
	}
}

// WaitForRest is Wait while the other side is in the middle of a large frame, so that it
// is worth looking before sleeping.
func (r *Receiver) WaitForRest() error {
	if !r.Arrived() {
		r.rest.Look(r.spins, r.arrived)
	}
	return r.Wait()
}

// Arrived tells whether Wait has nothing to wait for.
func (r *Receiver) Arrived() bool {
	return r.written.Load() != r.at || r.ring.closed.Load()
}

// ready tells whether there are bytes, and why there will be none.
func (r *Receiver) ready() (bool, error) {
	// Before the positions: what the other side wrote before it went is there when
	// this side knows that it has gone.
	closed := r.ring.closed.Load()
	n := r.written.Load() - r.at
	switch {
	case n > uint32(len(r.data)):
		return false, ErrCorrupt
	case n > 0:
		return true, nil
	case closed:
		return false, io.EOF
	}
	if at := r.deadline.Load(); at != 0 && clock() >= at {
		return false, os.ErrDeadlineExceeded
	}
	return false, nil
}

// Take copies bytes that are there to b and returns how many.
func (r *Receiver) Take(b []byte) (int, error) {
	n := r.written.Load() - r.at
	if n > uint32(len(r.data)) {
		return 0, ErrCorrupt
	}
	b = b[:min(uint64(n), uint64(len(b)))]
	first := copy(b, r.data[r.at&uint32(len(r.data)-1):])
	copy(b[first:], r.data)
	r.at += uint32(len(b))
	r.read.Store(r.at)
	wake(r.writerSleeps)
	return len(b), nil
}

package lane

import (
	"math"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/lanewire"
)

// A request that takes longer than handing it over does is run on another goroutine as a rule, so that its connection
// is read meanwhile. A client that sends one large request after the other sends nothing meanwhile. There the hand-over
// and the wait for more are all cost: threads that have to be woken before the run and after it, and Go's watchdog, which
// looks after whoever waits in the kernel beside it every few dozen microseconds. So the goroutine that reads runs such
// a request itself, and another one takes over the reading where that lasts.

// crowd is how many large requests of a client are handed over, once it was seen to send more than one at a time.
const crowd = 64

// alone is what a connection needs for requests that its own goroutine runs. It belongs to whoever reads the connection,
// but for what the connection's lock guards.
type alone struct {
	job    *job        // to be run by whoever reads, next
	crowd  int         // large requests that are still to be handed over
	relief *time.Timer // looks how long a run lasts; made with the first of them

	// Guarded by the connection's lock.
	turn    uint64 // how many runs there were
	running bool   // one is under way, and nobody reads
	watched bool   // relief is set
	seen    uint64 // turn when it was
}

// runsAlone tells whether whoever reads the connection is to run a large request of so many rows itself, all of which was read.
func (c *conn) runsAlone(s *engine.Snapshot, rows int, flags uint32) bool {
	if c.alone.crowd > 0 {
		c.alone.crowd--
		return false
	}
	if flags&lanewire.FlagExplain != 0 || !s.AtOnce(rows) {
		return false
	}
	if c.r.Waiting() {
		c.alone.crowd = crowd
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outstanding == 0
}

// runAlone runs the job that is to be run next, and reports whether the caller still is the one who reads: else another
// goroutine does, and the caller leaves the connection to it.
func (c *conn) runAlone() (reads bool) {
	a := &c.alone
	j := a.job
	a.job = nil
	if a.relief == nil {
		a.relief = time.AfterFunc(math.MaxInt64, c.relieve)
	}
	c.mu.Lock()
	a.turn++
	turn := a.turn
	j.turn, a.running = turn, true
	if !a.watched {
		c.watchAlone()
	}
	c.mu.Unlock()
	j.run()
	c.mu.Lock()
	defer c.mu.Unlock()
	if reads = a.running && a.turn == turn; reads {
		a.running = false
	}
	return reads
}

// watchAlone has relieve look after a while. Setting a timer wakes a thread, so that it is not set for each run, nor stopped after
// it. The connection's lock is held.
func (c *conn) watchAlone() {
	a := &c.alone
	a.watched, a.seen = true, a.turn
	a.relief.Reset(c.server.patience.alone)
}

// notice is called when a run of the connection's own is over, before the answer, which the next request may follow at once:
// what has come by then came beside it.
func (c *conn) notice(turn uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := &c.alone; a.running && a.turn == turn && c.r.Waiting() {
		a.crowd = crowd
	}
}

// relieve takes over the reading of a connection whose goroutine has been busy with one run since the last look, and looks again
// where there were others.
func (c *conn) relieve() {
	a := &c.alone
	c.mu.Lock()
	takes := a.running && a.turn == a.seen
	switch {
	case takes:
		a.running, a.watched = false, false
	case a.turn != a.seen:
		c.watchAlone()
	default:
		a.watched = false
	}
	c.mu.Unlock()
	if takes {
		c.read(nil)
	}
}

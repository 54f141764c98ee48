package engine

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
)

// queue is the requests that wait for one model and the instances that are
// idle. It is the only owner of that truth: whatever changes a request's state
// or takes an instance does so under its one lock, and nothing is called back
// while the lock is held.
type queue struct {
	inline      bool // an idle instance may be run by the caller
	anywhere    bool // likewise, if the run does not take long
	batchable   bool
	maxRequests int
	maxRows     int
	delay       time.Duration

	mu        sync.Mutex
	levels    [priorities]requestList
	requests  int // waiting
	rows      int // waiting
	idle      []*worker
	instances int
	collector *worker // an instance that waits for a batch to fill
	urgent    int     // waiting requests whose deadline leaves no room for delay
	closed    bool
	cost      cost      // of runs, for the estimate at admission
	workers   []*worker // all, for when they are idle again
}

// requestList is a doubly linked list through the requests themselves, so that
// a cancelled one leaves in constant time.
type requestList struct {
	head, tail     *Request
	requests, rows int
	share          int // rows, of each request no more than a batch has
}

func (l *requestList) push(r *Request) {
	l.requests++
	l.rows += r.Rows
	r.prev, r.next = l.tail, nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}

func (l *requestList) remove(r *Request) {
	l.requests--
	l.rows -= r.Rows
	if r.prev == nil {
		l.head = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.tail = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}

// admit gives the engine its reference on r and either returns an instance that
// the caller must run r on and then give back, or queues r and returns nil, or
// refuses with ErrBusy, in which case the engine has no reference.
func (q *queue) admit(r *Request) (*worker, error) {
	q.mu.Lock()
	if q.requests == 0 && len(q.idle) > 0 && (q.inline || q.anywhere && q.briefly(r)) {
		w := q.popIdle()
		w.began = r.arrived
		r.state = requestRunning
		r.refs.Add(1)
		q.mu.Unlock()
		return w, nil
	}
	if no := q.refuse(r.Rows, r.Priority, r.arrived, r.deadline); no.full || no.late {
		q.mu.Unlock()
		r.state = requestDone
		return nil, no.reason(q)
	}
	r.state = requestQueued
	r.refs.Add(1)
	q.push(r)
	w := q.collector
	switch {
	case w == nil && len(q.idle) > 0:
		w = q.popIdle()
	case w != nil && (q.rows >= q.maxRows || r.urgent):
		q.collector = nil
	default:
		w = nil
	}
	q.mu.Unlock()
	if w != nil {
		w.wake <- struct{}{}
	}
	return nil, nil
}

// errExpired is for requests whose deadline passes before an instance is theirs.
var errExpired = fmt.Errorf("predicting: %w while waiting", ErrDeadline)

// moment is the longest run, in nanoseconds, that a caller makes itself of a model that is
// not inline: while it runs, its caller cannot give up.
const moment = float64(50 * time.Millisecond)

// briefly tells whether r, run now, is expected to be over within a moment, and before its
// deadline, as nobody would tell its caller then that it has passed. q.mu is held.
func (q *queue) briefly(r *Request) bool {
	takes := q.cost.of(1, r.Rows)
	return takes <= moment && (r.deadline == 0 || takes <= float64(r.deadline-r.arrived))
}

// atOnce tells whether a caller would run so many rows itself now, and be done within a moment.
func (q *queue) atOnce(rows int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return (q.inline || q.anywhere) && q.requests == 0 && len(q.idle) > 0 && q.cost.of(1, rows) <= moment
}

// caution is the part of an estimate that is added to it: in an overload every request
// that is let in is one that just makes it, and there it spends a while in sockets, and
// waits for a processor, of which the engine knows nothing.
const caution = 16

// refusal is why a request is not let in, if it is not.
type refusal struct {
	full, late bool
	wait, left time.Duration
}

// reason is told without the lock.
func (no refusal) reason(q *queue) error { return &busy{no, q.maxRequests} }

// busy is a refusal as an error, which is ErrBusy. In an overload most of the work is to
// refuse, and of that fmt.Errorf would be a large part.
type busy struct {
	refusal
	maxRequests int
}

// Error implements error.
func (b *busy) Error() string {
	if b.full {
		return "predicting: " + ErrBusy.Error() + ": " + strconv.Itoa(b.maxRequests) + " requests are waiting already"
	}
	return "predicting: " + ErrBusy.Error() + ": the answer would take " + b.wait.Round(time.Microsecond).String() +
		" and the deadline is in " + b.left.Round(time.Microsecond).String()
}

// Unwrap has errors.Is find ErrBusy.
func (b *busy) Unwrap() error { return ErrBusy }

// refuse decides on a request of so many rows that has arrived and no instance for
// itself. q.mu is held.
func (q *queue) refuse(rows int, p Priority, arrived, deadline int64) (no refusal) {
	if q.requests >= q.maxRequests {
		no.full = true
		return no
	}
	if deadline != 0 && len(q.idle) == 0 && q.collector == nil {
		no.wait, no.left = q.estimate(rows, p, arrived), time.Duration(deadline-arrived)
		no.late = no.wait+no.wait/caution > no.left
	}
	return no
}

// refuses is refuse for a request that was not made.
func (q *queue) refuses(rows int, p Priority, arrived, deadline int64) error {
	q.mu.Lock()
	no := q.refuse(rows, p, arrived, deadline)
	q.mu.Unlock()
	if no.full || no.late {
		return no.reason(q)
	}
	return nil
}

// estimate is how long it takes until a request that has arrived is answered if it is
// queued now, when no instance is idle: until one is, and then the runs ahead and its
// own, which are as few as they can be. Lower priorities are behind it. q.mu is held.
func (q *queue) estimate(own int, p Priority, arrived int64) time.Duration {
	requests, rows, share := 1, own, q.share(own)
	for _, level := range order {
		requests += q.levels[level].requests
		rows += q.levels[level].rows
		share += q.levels[level].share
		if level == p {
			break
		}
	}
	all, alone := q.cost.of(q.runs(requests, share), rows), q.cost.of(1, own)
	return time.Duration(q.untilIdle(arrived) + max(all/float64(q.instances), alone))
}

// runs is how many runs so many requests make, at least, which have so much of a
// batch (see share).
func (q *queue) runs(requests, share int) int {
	if q.batchable {
		return (share + q.maxRows - 1) / q.maxRows
	}
	return requests
}

// share is how many rows of a batch a request of so many takes: one of more rows than
// a batch has is one run all the same.
func (q *queue) share(rows int) int { return min(rows, q.maxRows) }

// untilIdle is how long it takes until the first of the instances is idle, all of
// which are busy. q.mu is held.
func (q *queue) untilIdle(now int64) float64 {
	soonest := math.Inf(1)
	for _, w := range q.workers {
		soonest = min(soonest, max(0, q.cost.usual()-float64(now-w.began)))
	}
	return soonest
}

// turn is how long a request of so many rows and of normal priority waits if it comes
// now, until it is run. Of a run that takes longer than usual nobody knows when it
// ends: as much later again as it is late already, as far as anyone can tell.
func (q *queue) turn(rows int) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.requests == 0 && len(q.idle) > 0 {
		return 0
	}
	now, late := clock(), math.Inf(1)
	for _, w := range q.workers {
		late = min(late, max(0, float64(now-w.began)-q.cost.usual()))
	}
	return q.estimate(rows, Normal, now) - time.Duration(q.cost.of(1, rows)) + time.Duration(late)
}

// backlog is how long it takes to run all that waits, at least one run.
func (q *queue) backlog() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	share := 0
	for i := range q.levels {
		share += q.levels[i].share
	}
	return time.Duration(max(q.cost.usual(), q.cost.of(q.runs(q.requests, share), q.rows)/float64(q.instances)))
}

// push adds r to those that wait. q.mu is held.
func (q *queue) push(r *Request) {
	q.levels[r.Priority].push(r)
	q.levels[r.Priority].share += q.share(r.Rows)
	q.requests++
	q.rows += r.Rows
	if r.urgent = q.delay > 0 && r.deadline != 0 && r.deadline-r.arrived < int64(q.delay)+int64(q.cost.of(1, r.Rows)); r.urgent {
		q.urgent++
	}
}

// remove is the reverse of push. q.mu is held.
func (q *queue) remove(r *Request) {
	q.levels[r.Priority].remove(r)
	q.levels[r.Priority].share -= q.share(r.Rows)
	q.requests--
	q.rows -= r.Rows
	if r.urgent {
		q.urgent--
	}
}

// popIdle takes an instance off the idle list, which is not empty. Its wake has
// room for the one token that it is owed from now on. q.mu is held.
func (q *queue) popIdle() *worker {
	last := len(q.idle) - 1
	w := q.idle[last]
	q.idle = q.idle[:last]
	return w
}

// join adds an instance, which is idle. Its goroutine waits to be woken, and goes on with take.
func (q *queue) join(w *worker) {
	q.mu.Lock()
	q.idle = append(q.idle, w)
	q.mu.Unlock()
}

// giveBack returns an instance that admit gave. When requests came in
// meanwhile, the instance's own goroutine goes on with them, so that the caller
// can answer.
func (q *queue) giveBack(w *worker) {
	q.mu.Lock()
	q.observe(w)
	if q.requests == 0 && !q.closed {
		q.idle = append(q.idle, w)
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	w.wake <- struct{}{}
}

// learn takes over what warming up measured; see cost.guess.
func (q *queue) learn(rowNS, batchNS int64, batch int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cost.guess(rowNS, batchNS, batch)
}

// observe takes over what w measured. q.mu is held.
func (q *queue) observe(w *worker) {
	if w.ranRows == 0 {
		return
	}
	q.cost.add(float64(w.ranRows)/float64(w.ranTimes), float64(w.ranNS)/float64(w.ranTimes))
	w.ranRows, w.ranTimes, w.ranNS = 0, 0, 0
}

// take answers the batch that w has run, blocks until there is another and appends it to
// w.batch, or returns false when the queue is closed. Both are one holding of the lock, and
// callers are told when it is over. Requests whose deadline has passed are answered here.
func (q *queue) take(w *worker) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.observe(w)
	q.settle(w)
	for {
		now := clock()
		switch wait := q.worthWaiting(now); {
		case q.requests == 0:
		case wait == 0:
			q.collect(w, now)
			if q.requests > 0 && q.collector == nil && len(q.idle) > 0 {
				// What the batch had no room for. While w waited for the batch to
				// fill, nobody was woken for it.
				q.popIdle().wake <- struct{}{}
			}
			return true
		case q.collector == nil:
			q.sleepUntilFull(w, wait)
			continue
		default: // another instance waits for the batch to fill
		}
		if q.closed {
			return false
		}
		q.idle = append(q.idle, w)
		q.mu.Unlock()
		w.tell()
		<-w.wake
		q.mu.Lock()
	}
}

// sleepUntilFull makes w the collector until the batch is full, or for d. q.mu is
// held, but not while w sleeps.
func (q *queue) sleepUntilFull(w *worker, d time.Duration) {
	q.collector = w
	q.mu.Unlock()
	w.tell()
	woken := w.sleep(d)
	q.mu.Lock()
	if q.collector == w {
		q.collector = nil
	} else if !woken {
		// Whoever took w out of collector has sent it a token, or is about to;
		// left behind, it would wake w once too often.
		q.mu.Unlock()
		<-w.wake
		q.mu.Lock()
	}
}

// worthWaiting is how long an instance may still wait for the batch to fill,
// never negative. q.mu is held.
func (q *queue) worthWaiting(now int64) time.Duration {
	if q.delay == 0 || !q.batchable || q.rows >= q.maxRows || q.urgent > 0 || q.closed {
		return 0
	}
	oldest := now
	for i := range q.levels {
		if r := q.levels[i].head; r != nil {
			oldest = min(oldest, r.arrived)
		}
	}
	return max(0, q.delay-time.Duration(now-oldest))
}

// collect moves what fits one batch from the lists to w. The first request is
// taken whatever its size. One that is to be explained, which takes much longer than a
// run, is taken alone.
func (q *queue) collect(w *worker, now int64) {
	w.began = now
	rows := 0
	for _, level := range order {
		for r := q.levels[level].head; r != nil; {
			next := r.next
			expired := r.deadline != 0 && now >= r.deadline
			if !expired && len(w.batch) > 0 && (!q.batchable || rows+r.Rows > q.maxRows || r.Explain || w.batch[0].Explain) {
				return
			}
			q.remove(r)
			if expired {
				r.err = errExpired
				q.answer(w, r)
			} else {
				r.state = requestRunning
				w.batch = append(w.batch, r)
				rows += r.Rows
			}
			r = next
		}
	}
}

// abandon is called by a caller that gives up. It reports whether there will
// be no answer for it: r has left the queue, or an instance is busy with it and
// its answer will be dropped. False means that r is answered, and its caller to be told.
func (q *queue) abandon(r *Request) bool {
	q.mu.Lock()
	r.left = r.state
	switch r.state {
	case requestQueued:
		q.remove(r)
		r.state = requestDone
		q.mu.Unlock()
		r.unref()
		return true
	case requestDone:
		q.mu.Unlock()
		return false
	}
	q.mu.Unlock()
	return true
}

// answer marks r as answered and has w tell its caller when the lock is free again, or drop
// it where the caller has left. q.mu is held.
func (q *queue) answer(w *worker, r *Request) {
	r.state = requestDone
	to := &w.answered
	if r.left != requestNew {
		to = &w.dropped
	}
	r.next, *to = *to, r
}

// settle answers the batch that w has run. The first is told first. q.mu is held.
func (q *queue) settle(w *worker) {
	for _, r := range slices.Backward(w.batch) {
		q.answer(w, r)
	}
	clear(w.batch)
	w.batch = w.batch[:0]
}

// length is how many requests and rows wait.
func (q *queue) length() (requests, rows int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.requests, q.rows
}

// close lets every worker end once nothing waits. The last reference on the
// snapshot is gone by then, so nothing does.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	idle := q.idle
	q.idle = nil
	if q.collector != nil {
		// Its requests have all been abandoned.
		idle = append(idle, q.collector)
		q.collector = nil
	}
	q.mu.Unlock()
	for _, w := range idle {
		w.wake <- struct{}{}
	}
}

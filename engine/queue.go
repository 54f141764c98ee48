package engine

import (
	"fmt"
	"sync"
	"time"
)

// queue is the requests that wait for one model and the instances that are
// idle. It is the only owner of that truth: whatever changes a request's state
// or takes an instance does so under its one lock, and nothing is called back
// while the lock is held.
type queue struct {
	inline      bool // an idle instance may be run by the caller
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
	closed    bool
	// nsPerRow is a moving average of how long a row takes in a run, for the
	// estimate at admission; 0 while unknown.
	nsPerRow float64
}

// requestList is a doubly linked list through the requests themselves, so that
// a cancelled one leaves in constant time.
type requestList struct{ head, tail *Request }

func (l *requestList) push(r *Request) {
	r.prev, r.next = l.tail, nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}

func (l *requestList) remove(r *Request) {
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
	if q.inline && q.requests == 0 && len(q.idle) > 0 {
		w := q.popIdle()
		r.state = requestRunning
		r.refs.Add(1)
		q.mu.Unlock()
		return w, nil
	}
	if q.requests >= q.maxRequests {
		q.mu.Unlock()
		r.state = requestDone
		return nil, fmt.Errorf("predicting: %w: %d requests are waiting already", ErrBusy, q.maxRequests)
	}
	if r.deadline != 0 && q.requests > 0 {
		// Only what waits is counted: the runs under way end at a time that is
		// not known, so the estimate errs on the side of admitting.
		wait := int64(q.nsPerRow * float64(q.rows+r.Rows) / float64(q.instances))
		if r.arrived+wait > r.deadline {
			q.mu.Unlock()
			r.state = requestDone
			return nil, fmt.Errorf("predicting: %w: the queue is %v long and the deadline is in %v", ErrBusy,
				time.Duration(wait).Round(time.Microsecond), time.Duration(r.deadline-r.arrived).Round(time.Microsecond))
		}
	}
	r.state = requestQueued
	r.refs.Add(1)
	q.levels[r.Priority].push(r)
	q.requests++
	q.rows += r.Rows
	w := q.collector
	switch {
	case w == nil && len(q.idle) > 0:
		w = q.popIdle()
	case w != nil && q.rows >= q.maxRows:
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

func (q *queue) popIdle() *worker {
	last := len(q.idle) - 1
	w := q.idle[last]
	q.idle = q.idle[:last]
	return w
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

// observe takes over what w measured. q.mu is held.
func (q *queue) observe(w *worker) {
	if w.ranRows == 0 {
		return
	}
	ns := float64(w.ranNS) / float64(w.ranRows)
	if q.nsPerRow == 0 {
		q.nsPerRow = ns
	} else {
		q.nsPerRow += (ns - q.nsPerRow) / 8
	}
	w.ranRows, w.ranNS = 0, 0
}

// take blocks until there is a batch for w and appends it to w.batch, or
// returns false when the queue is closed. Requests whose deadline has passed
// are appended to w.expired instead, for w to answer.
func (q *queue) take(w *worker) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.observe(w)
	for {
		now := clock()
		if q.requests > 0 {
			if wait := q.worthWaiting(now); wait > 0 {
				q.collector = w
				q.mu.Unlock()
				woken := w.sleep(wait)
				q.mu.Lock()
				if q.collector == w {
					q.collector = nil
				} else if !woken {
					// Whoever took w out of collector has sent it a token, or is
					// about to; left behind, it would wake w once too often.
					q.mu.Unlock()
					<-w.wake
					q.mu.Lock()
				}
				continue
			}
			q.collect(w, now)
			if len(w.batch)+len(w.expired) > 0 {
				return true
			}
		}
		if q.closed {
			return false
		}
		q.idle = append(q.idle, w)
		q.mu.Unlock()
		<-w.wake
		q.mu.Lock()
	}
}

// worthWaiting is how long an instance may still wait for the batch to fill.
func (q *queue) worthWaiting(now int64) time.Duration {
	if q.delay == 0 || !q.batchable || q.rows >= q.maxRows || q.collector != nil || q.closed {
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
// taken whatever its size.
func (q *queue) collect(w *worker, now int64) {
	rows := 0
	for _, level := range order {
		list := &q.levels[level]
		for r := list.head; r != nil; {
			next := r.next
			expired := r.deadline != 0 && now >= r.deadline
			if !expired && len(w.batch) > 0 && (!q.batchable || rows+r.Rows > q.maxRows) {
				return
			}
			list.remove(r)
			q.requests--
			q.rows -= r.Rows
			r.state = requestRunning
			if expired {
				w.expired = append(w.expired, r)
			} else {
				w.batch = append(w.batch, r)
				rows += r.Rows
			}
			r = next
		}
	}
}

// abandon is called by a caller that gives up. It reports whether there will
// be no answer for it: r has left the queue, or an instance is busy with it and
// its answer will be dropped. False means that an answer is in r.done.
func (q *queue) abandon(r *Request) bool {
	q.mu.Lock()
	switch r.state {
	case requestQueued:
		q.levels[r.Priority].remove(r)
		q.requests--
		q.rows -= r.Rows
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

// finish marks r as answered and wakes its caller. The engine's reference goes.
func (q *queue) finish(r *Request, err error) {
	r.err = err
	q.mu.Lock()
	r.state = requestDone
	q.mu.Unlock()
	r.done <- struct{}{}
	r.unref()
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

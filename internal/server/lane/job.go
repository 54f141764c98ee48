package lane

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/lanewire"
)

// job is a prediction on a goroutine of its own. It is its own context, so that
// it can be cancelled without anything being allocated for the case.
type job struct {
	conn *conn
	prediction
	parts   []part
	tensors [][]byte // scratch
	begin   func()   // run, kept because making it allocates
	turn    uint64   // of the runs that its connection makes itself; 0 for none of them

	done      chan struct{}
	cancelled atomic.Bool // done is closed

	// Guarded by the connection's lock.
	prev, next *job
	wanted     int // parts that are not cancelled
}

func newJob() any {
	j := &job{done: make(chan struct{})}
	j.begin = j.run
	return j
}

var _ context.Context = (*job)(nil)

// Deadline implements context.Context. The engine's request has the deadline.
func (j *job) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (j *job) Done() <-chan struct{} { return j.done }

// Err implements context.Context.
func (j *job) Err() error {
	if j.cancelled.Load() {
		return context.Canceled
	}
	return nil
}

// Value implements context.Context.
func (j *job) Value(any) any { return nil }

const (
	// mostUnread is how many bytes of answers wait for a client before no more of its
	// requests are run, or read.
	mostUnread = 16 << 10
	// mostCheap is how many requests to cheap models may be under way before the
	// connection waits for some of them, which does not take long, and reads no more.
	mostCheap = 128
)

// startJob takes p over, on success only, and runs it on another goroutine.
func (c *conn) startJob(p prediction, parts []part) error {
	j, err := c.enlist(p, parts)
	if err == nil {
		go j.begin()
	}
	return err
}

// enlist makes a job of p, which it takes over on success only, for the caller to run. Of a
// client that does not read its answers it first waits until it does, or is hung up
// on: requests under way take more memory than those in its socket.
func (c *conn) enlist(p prediction, parts []part) (*job, error) {
	c.w.WaitForReader(mostUnread)
	c.mu.Lock()
	for c.outstanding >= mostCheap && !c.gone && p.snapshot.Cheap(p.request.Rows) {
		c.fewer.Wait()
	}
	if c.outstanding+len(parts) > maxOutstanding {
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: %d requests of the connection are under way, which is the limit", engine.ErrBusy, maxOutstanding)
	}
	j := c.server.jobs.Get().(*job)
	j.conn, j.prediction, j.wanted = c, p, len(parts)
	j.parts = append(j.parts[:0], parts...)
	c.outstanding += len(parts)
	if j.next = c.first; j.next != nil {
		j.next.prev = j
	}
	c.first = j
	if c.gone {
		j.cancel()
	}
	c.mu.Unlock()
	// Whoever replaces the model does not wait for the job to begin: the request
	// holds a reference of its own on the snapshot.
	c.jobs.Add(1)
	return j, nil
}

// cancel ends the job's wait. The connection's lock is held.
func (j *job) cancel() {
	if !j.cancelled.Swap(true) {
		close(j.done)
	}
}

func (j *job) run() {
	c := j.conn
	err := j.request.Predict(j)
	if j.turn != 0 {
		c.notice(j.turn)
		j.turn = 0
	}
	c.forget(j)
	c.answer(&j.prediction, j.parts, err, &j.tensors)
	j.release(c.server.budget)
	_ = c.w.Flush() // an error is that of the connection, which ends by itself
	j.conn, j.prediction = nil, prediction{}
	if j.cancelled.Load() {
		j.done = make(chan struct{})
		j.cancelled.Store(false)
	}
	c.server.jobs.Put(j)
	c.jobs.Done()
}

// forget takes the job off the list; its parts do not change any more.
func (c *conn) forget(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outstanding -= len(j.parts)
	c.fewer.Signal()
	if j.prev == nil {
		c.first = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
}

// cancel answers the request of that id, if it is still under way, and takes it
// from the queue if all that it was put together with are cancelled too.
func (c *conn) cancel(id uint64) {
	if c.markCancelled(id) {
		c.tell(id, lanewire.Failure{Code: uint32(codes.Canceled), Sentence: "predicting: canceled by the caller"})
	}
}

func (c *conn) markCancelled(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for j := c.first; j != nil; j = j.next {
		for i := range j.parts {
			if p := &j.parts[i]; p.id == id && !p.cancelled {
				p.cancelled = true
				if j.wanted--; j.wanted == 0 {
					j.cancel()
				}
				return true
			}
		}
	}
	return false
}

// dropJobs cancels everything: nobody wants the answers.
func (c *conn) dropJobs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.fewer.Broadcast()
	for j := c.first; j != nil; j = j.next {
		j.cancel()
	}
}

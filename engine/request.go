package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// Priority orders the requests that wait for one model.
type Priority uint8

// The zero Priority names none: a request takes that of its model, and a model
// Normal.
const (
	Unnamed Priority = iota
	Normal
	High
	Low
	priorities = 4
)

// order is which priority is taken first.
var order = [...]Priority{High, Normal, Low}

// String is the priority as the configuration has it.
func (p Priority) String() string {
	return [priorities]string{"", "normal", "high", "low"}[p]
}

// Request is one prediction. It is made by Snapshot.NewRequest, filled,
// predicted once, and released. Its methods are for one goroutine.
type Request struct {
	// Inputs are in the order of the Signature, for the caller to fill before
	// Predict. After Predict they must not be written to.
	Inputs []tensor.Tensor
	// Outputs are in the order of the Signature, valid from a successful
	// Predict until Release. After a failed Predict they must not be looked at:
	// an instance may still be writing to them. With Explain, the contributions come
	// last.
	Outputs []tensor.Tensor
	// Explain asks for the Signature's Contributions. It is set before Predict, which
	// fails with ErrInvalidInput where the model has none.
	Explain bool
	// Rows is the number of rows.
	Rows int
	// Deadline is when the answer is no longer wanted; zero for the context's
	// deadline or the model's default, whichever there is.
	Deadline time.Time
	// Priority decides who waits longer when requests wait; Unnamed for the model's.
	Priority Priority
	// Count is how many requests of clients this is, where a codec has put
	// several into one, for Stats; 0 is one.
	Count int
	// Timing, if it is set before Predict, says after it where the time went. It is
	// the caller's, and Release forgets it.
	Timing *Timing

	name     name // what it is called, for a Tap
	snapshot *Snapshot
	// refs is one for the caller until Release, one for the engine while the request
	// is queued or running, and one for a Tap that keeps it.
	refs atomic.Int32

	// The rest belongs to the queue: guarded by its lock while the engine has
	// the request.
	state      requestState
	prev, next *Request
	arrived    int64 // nanoseconds of clock
	deadline   int64 // nanoseconds of clock, 0 for none
	ended      int64 // nanoseconds of clock, when the run was over
	urgent     bool  // while it waits: its deadline leaves no room for the batch delay
	err        error
	done       chan struct{} // one token when it is answered, unless its caller has left before
	timer      *time.Timer   // for deadlines that no context carries
	ran        ran           // of a request with a Timing
	left       requestState  // what its caller gave up, if it did

	// answered is when the run was over that gave the caller its answer, 0 without
	// one. It is the caller's, who may have left while a run goes on.
	answered int64
}

type requestState uint8

const (
	requestNew requestState = iota
	requestQueued
	requestRunning
	requestDone
)

// epoch is what clock counts from.
var epoch = time.Now()

// clock is the monotonic time in nanoseconds, never 0.
func clock() int64 { return int64(time.Since(epoch)) + 1 }

// SetInput puts t in the place of input i and takes over the caller's reference
// on its Buffer, on success only. Its element type and shape must be the
// Signature's for r.Rows rows, and it must start at an address aligned to
// tensor.Alignment. The memory must not be the Go heap's.
func (r *Request) SetInput(i int, t tensor.Tensor) error {
	have := &r.Inputs[i]
	if t.DType != have.DType || t.Shape != have.Shape {
		return fmt.Errorf("%w: input %q is %s %s, want %s %s", ErrInvalidInput, have.Name, t.DType, t.Shape, have.DType, have.Shape)
	}
	if t.Size() != have.Size() || uintptr(tensor.Pointer(t))%tensor.Alignment != 0 {
		return fmt.Errorf("%w: input %q has no memory, or none that is aligned to %d bytes", ErrInvalidInput, have.Name, tensor.Alignment)
	}
	t.Name = have.Name
	have.Buffer.Release()
	*have = t
	return nil
}

// Predict runs the model and returns when Outputs are there or with an error:
// ErrBusy when refused, ErrDeadline, ErrCanceled, ErrRun. It returns when ctx
// ends even while an instance is busy with the request; the instance then
// finishes into memory that is kept until it is done.
func (r *Request) Predict(ctx context.Context) error {
	if r.state != requestNew {
		panic("BUG: engine.Request.Predict was called twice")
	}
	r.arrived = clock()
	end, err := r.predict(ctx)
	r.snapshot.stats.outcome(r.count(), r.Rows, end-r.arrived, err)
	if r.Timing != nil {
		r.tell(end)
	}
	if t := r.snapshot.tap; t != nil {
		t.Ended(r, err)
	}
	return err
}

// Wanted fails with ErrDeadline or ErrCanceled when nobody waits for an answer
// any more. It is for codecs whose inputs take long to fetch, before Predict.
func (r *Request) Wanted(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("predicting: %w", contextError(err))
	}
	if !r.Deadline.IsZero() && !time.Now().Before(r.Deadline) {
		return fmt.Errorf("predicting: the %w before the inputs were fetched", ErrDeadline)
	}
	return nil
}

// count is how many requests of clients r is.
func (r *Request) count() uint64 { return uint64(max(r.Count, 1)) }

// predict returns what Predict does, and when that was: of a run on this thread its
// end, which was read anyway.
func (r *Request) predict(ctx context.Context) (end int64, err error) {
	if err := r.prepare(ctx); err != nil {
		r.state = requestDone
		return clock(), err
	}
	q := &r.snapshot.queue
	w, err := q.admit(r)
	if err != nil {
		return clock(), err
	}
	if w != nil {
		err = w.runInline(r)
		end = r.ended
		q.giveBack(w)
		r.unref()
	} else {
		err = r.wait(ctx)
		end = clock()
	}
	if err == nil {
		r.answered = r.ended
	}
	return end, err
}

// prepare does what needs no lock and no instance.
func (r *Request) prepare(ctx context.Context) error {
	if err := r.takeDeadline(ctx); err != nil {
		return err
	}
	if r.Priority == Unnamed {
		r.Priority = r.snapshot.options.Priority
	}
	for i := range r.snapshot.signature.Outputs {
		t, err := r.snapshot.allocate(&r.snapshot.signature.Outputs[i], r.Rows)
		if err != nil {
			return err
		}
		r.Outputs = append(r.Outputs, t)
	}
	if !r.Explain {
		return nil
	}
	if err := r.snapshot.CanExplain(); err != nil {
		return err
	}
	t, err := r.snapshot.allocate(r.snapshot.signature.Contributions, r.Rows)
	if err != nil {
		return err
	}
	r.Outputs = append(r.Outputs, t)
	return nil
}

// takeDeadline settles r.deadline and fails when it is over already.
func (r *Request) takeDeadline(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("predicting: %w", contextError(err))
	}
	deadline, ok := ctx.Deadline()
	if ok && (r.Deadline.IsZero() || deadline.Before(r.Deadline)) {
		r.deadline = after(r.arrived, time.Until(deadline))
	} else if r.deadline = r.snapshot.due(r.arrived, r.Deadline); r.deadline == 0 {
		return nil
	}
	if r.deadline <= r.arrived {
		return fmt.Errorf("predicting: the %w before it was admitted", ErrDeadline)
	}
	return nil
}

// due is when a request that arrived then is to be answered, for its own deadline or
// else the model's, as the clock counts; 0 for never.
func (s *Snapshot) due(arrived int64, deadline time.Time) int64 {
	switch {
	case !deadline.IsZero():
		return after(arrived, time.Until(deadline))
	case s.options.Timeout > 0:
		return after(arrived, s.options.Timeout)
	}
	return 0
}

// after is d after a reading of the clock. Clients say the longest duration
// there is when they mean to wait for ever, so the sum may not fit; then it is
// the end of time.
func after(clock int64, d time.Duration) int64 {
	if int64(d) > math.MaxInt64-clock {
		return math.MaxInt64
	}
	return clock + int64(d)
}

// wait returns when the engine is done with r, or ctx or the deadline ends.
func (r *Request) wait(ctx context.Context) error {
	var expired <-chan time.Time
	if _, has := ctx.Deadline(); r.deadline != 0 && (!has || !r.Deadline.IsZero()) {
		left := time.Duration(r.deadline - clock())
		if r.timer == nil {
			r.timer = time.NewTimer(left)
		} else {
			r.timer.Reset(left)
		}
		defer r.timer.Stop()
		expired = r.timer.C
	}
	var err error
	select {
	case <-r.done:
		return r.pass()
	case <-ctx.Done():
		err = fmt.Errorf("predicting: %w", contextError(ctx.Err()))
	case <-expired:
		err = fmt.Errorf("predicting: %w", ErrDeadline)
	}
	if !r.snapshot.queue.abandon(r) {
		// It was answered in the same moment.
		<-r.done
		return r.pass()
	}
	return err
}

// pass is for the caller of r when it was told that r is answered. It tells those whose requests
// were answered with r, gives up the engine's reference, and returns what r failed with.
func (r *Request) pass() error {
	for r.next != nil {
		other := r.next
		r.next, other.next = other.next, nil
		other.done <- struct{}{}
	}
	r.unref()
	return r.err
}

// contextError is the package's word for the end of a context.
func contextError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrDeadline
	}
	return fmt.Errorf("%w by the caller", ErrCanceled)
}

// Release gives the request and its tensors back, once the caller has taken the
// answer. It must not use either any more.
func (r *Request) Release() {
	if r.answered != 0 {
		r.snapshot.stats.reply.add(clock()-r.answered, r.count())
		r.answered = 0
	}
	r.unref()
}

// unref drops one of the references; with the last one r is recycled.
func (r *Request) unref() {
	switch n := r.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("BUG: an engine.Request was released twice")
	}
	for i := range r.Inputs {
		r.Inputs[i].Buffer.Release()
		r.Inputs[i] = tensor.Tensor{}
	}
	for i := range r.Outputs {
		r.Outputs[i].Buffer.Release()
		r.Outputs[i] = tensor.Tensor{}
	}
	s := r.snapshot
	r.Inputs, r.Outputs = r.Inputs[:0], r.Outputs[:0]
	r.Rows, r.Deadline, r.Priority, r.Count, r.Explain = 0, time.Time{}, Unnamed, 0, false
	r.name.forget()
	r.deadline, r.arrived, r.ended, r.err, r.snapshot = 0, 0, 0, nil, nil
	if r.Timing != nil {
		r.Timing, r.ran = nil, ran{}
	}
	r.state, r.left = requestNew, requestNew
	s.requests.Put(r)
	s.Release()
}

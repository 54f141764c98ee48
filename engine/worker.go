package engine

import (
	"fmt"
	"time"

	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// worker is one instance and the goroutine that owns it. For models that are
// bound to threads the goroutine is locked to one OS thread for its whole life,
// and only it calls the instance. For inline models, and those that run anywhere,
// whoever took the worker from the queue calls the instance, one at a time.
type worker struct {
	snapshot *Snapshot
	instance Instance
	wake     chan struct{} // one token when there is something to do
	timer    *time.Timer   // for batch delays; nil until one is used

	// Requests that are answered, linked by next: answered those whose callers are to be
	// told, dropped those whose callers have left.
	answered, dropped *Request

	// Scratch of the current run, used by whoever has the worker.
	batch   []*Request
	in, out []tensor.Tensor // gathered batches, allocated at the first one
	viewIn  []tensor.Tensor // the part of a batch or a request being run
	viewOut []tensor.Tensor

	// What it ran since the queue last asked, for the estimate at admission.
	ranRows, ranTimes int
	ranNS             int64
	began             int64 // when it was taken from the queue; guarded by the queue's lock
}

func newWorker(s *Snapshot) *worker {
	return &worker{
		snapshot: s,
		wake:     make(chan struct{}, 1),
		viewIn:   make([]tensor.Tensor, len(s.signature.Inputs)),
		viewOut:  make([]tensor.Tensor, len(s.signature.Outputs)),
	}
}

// serve makes the instance, warms it up, reports on ready, and then runs
// batches until the queue is closed.
func (w *worker) serve(ready chan<- error) {
	if !w.snapshot.properties.bound() {
		w.work(ready)
		return
	}
	hw.OnOwnThread(func() {
		_ = hw.WakeSoon() // where it cannot be asked for, it wakes as other threads do
		w.work(ready)
	})
}

// work is serve, on the thread that the instance is to have.
func (w *worker) work(ready chan<- error) {
	err := w.start()
	if w.instance != nil {
		defer w.close()
	}
	if err != nil {
		ready <- err
		return
	}
	// Idle before it says so: the first caller of a model finds its instances waiting.
	w.snapshot.queue.join(w)
	ready <- nil
	<-w.wake
	for w.snapshot.queue.take(w) {
		w.tell()
		w.runBatch()
	}
	w.tell()
}

// start makes the instance and warms it up. After an error there may be an
// instance all the same.
func (w *worker) start() (err error) {
	defer contain(w.snapshot.log, w.snapshot.name, &err)
	if err := w.snapshot.cores.keepThread(); err != nil {
		return err
	}
	instance, err := w.snapshot.model.NewInstance()
	if err != nil {
		return fmt.Errorf("making an instance: %w", err)
	}
	w.instance = instance
	if err := w.warmUp(); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	return nil
}

func (w *worker) close() {
	releaseAll(w.in)
	releaseAll(w.out)
	closing(w.snapshot.log, "instance", w.snapshot.name, w.snapshot.description.Backend, w.instance)
}

// sleep waits for a wake or for d; it reports whether it was woken.
func (w *worker) sleep(d time.Duration) bool {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	defer w.timer.Stop()
	select {
	case <-w.wake:
		return true
	case <-w.timer.C:
		return false
	}
}

// tell wakes the first of the callers whose requests are answered. That one wakes the others
// (see pass), beside the next run and not before it.
func (w *worker) tell() {
	if first := w.answered; first != nil {
		w.answered = nil
		first.done <- struct{}{}
	}
	for w.dropped != nil {
		r := w.dropped
		w.dropped, r.next = r.next, nil
		r.unref()
	}
}

// runInline runs r on the caller's thread. r is not finished: the caller is the
// one who would be told.
func (w *worker) runInline(r *Request) error {
	w.snapshot.stats.inlineRuns.Add(1)
	err := w.runOne(r)
	r.ran.inline = r.Timing != nil
	return err
}

// runBatch runs what take put into w.batch, which it answers the next time.
func (w *worker) runBatch() {
	switch len(w.batch) {
	case 0:
	case 1:
		r := w.batch[0]
		r.err = w.runOne(r)
	default:
		w.runTogether()
	}
}

// runOne runs r from its own tensors into its own tensors: no copy.
func (w *worker) runOne(r *Request) error {
	start := clock()
	end, err := w.run(start, r.Inputs, r.Outputs[:len(w.viewOut)], r.Rows)
	if err == nil && r.Explain {
		end, err = w.explain(r)
	}
	r.ended = end
	w.snapshot.stats.queue.add(start-r.arrived, r.count())
	w.snapshot.stats.ran(r.Rows, end-start)
	if r.Timing != nil {
		r.ran = ran{start: start, end: end, rows: r.Rows, requests: int(r.count())}
	}
	return err
}

// explain fills the last of r's outputs, and returns the clock after it. What it takes is not counted among what
// runs take, by which requests are admitted: most are not explained.
func (w *worker) explain(r *Request) (end int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %w", ErrRun, panicked(w.snapshot.log, w.snapshot.name, p))
		}
		end = clock()
	}()
	if err := w.instance.(Explainer).Explain(r.Inputs, r.Outputs[len(w.viewOut)], r.Rows); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRun, err)
	}
	return 0, nil
}

// runTogether gathers the batch into one, runs it, and scatters the answers.
func (w *worker) runTogether() {
	taken := clock()
	start, end := taken, int64(0)
	rows := 0
	for _, r := range w.batch {
		rows += r.Rows
	}
	err := w.allocateBatch(rows)
	if err == nil {
		gather(w.in, w.batch)
		start = clock()
		end, err = w.run(start, w.in, w.out, rows)
	}
	if err != nil {
		w.runApart()
		return
	}
	scatter(w.batch, w.out)
	w.snapshot.stats.gather.record(start - taken)
	ranIn(w.batch, taken, end, rows)
	w.snapshot.stats.ran(rows, end-start)
	for _, r := range w.batch {
		r.ended = end
		w.snapshot.stats.queue.add(taken-r.arrived, r.count())
	}
}

// runApart runs the requests of a batch that failed one by one, and answers each before the
// next: one of them may be what the model chokes on, and the others must not fail with it.
func (w *worker) runApart() {
	q := &w.snapshot.queue
	for i, r := range w.batch {
		r.err = w.runOne(r)
		w.batch[i] = nil
		q.mu.Lock()
		q.answer(w, r)
		q.mu.Unlock()
		w.tell()
	}
	w.batch = w.batch[:0]
}

// allocateBatch makes w.in and w.out large enough for rows.
func (w *worker) allocateBatch(rows int) error {
	if w.in != nil && int(w.in[0].Shape.Dim(0)) >= rows {
		return nil
	}
	releaseAll(w.in)
	releaseAll(w.out)
	w.in, w.out = nil, nil
	signature := &w.snapshot.signature
	rows = max(rows, w.snapshot.options.MaxBatchRows)
	var in, out []tensor.Tensor
	for _, side := range []struct {
		specs []TensorSpec
		into  *[]tensor.Tensor
	}{{signature.Inputs, &in}, {signature.Outputs, &out}} {
		for i := range side.specs {
			t, err := w.snapshot.allocate(&side.specs[i], rows)
			if err != nil {
				releaseAll(in)
				releaseAll(out)
				return err
			}
			*side.into = append(*side.into, t)
		}
	}
	w.in, w.out = in, out
	return nil
}

// gather copies the requests' inputs one behind the other.
func gather(in []tensor.Tensor, batch []*Request) {
	for i := range in {
		to := in[i].Bytes()
		for _, r := range batch {
			to = to[copy(to, r.Inputs[i].Bytes()):]
		}
	}
}

// scatter is the reverse of gather.
func scatter(batch []*Request, out []tensor.Tensor) {
	for i := range out {
		from := out[i].Bytes()
		for _, r := range batch {
			from = from[copy(r.Outputs[i].Bytes(), from):]
		}
	}
}

// run runs the first rows rows of in and out, in parts where the model cannot
// take them at once. start is the clock before it, end the clock after it: a
// reading of the clock is a tenth of what the engine costs in all.
func (w *worker) run(start int64, in, out []tensor.Tensor, rows int) (end int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %w", ErrRun, panicked(w.snapshot.log, w.snapshot.name, p))
		}
		end = clock()
		w.ranRows += rows
		w.ranTimes++
		w.ranNS += end - start
	}()
	limit := w.snapshot.properties.MaxRows
	if limit == 0 || limit > rows {
		limit = rows
	}
	for at := 0; at < rows; at += limit {
		n := min(limit, rows-at)
		view(w.viewIn, in, w.snapshot.signature.Inputs, at, n)
		view(w.viewOut, out, w.snapshot.signature.Outputs, at, n)
		if err := w.instance.Run(w.viewIn, w.viewOut, n); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrRun, err)
		}
	}
	return 0, nil
}

// view fills part with rows at to at+n of whole; tensors without rows are
// viewed as they are.
func view(part, whole []tensor.Tensor, specs []TensorSpec, at, n int) {
	for i := range whole {
		if specs[i].HasRows() && whole[i].Shape.Dim(0) != int64(n) {
			part[i] = whole[i].Rows(at, at+n)
		} else {
			part[i] = whole[i]
		}
	}
}

// warmUp runs the instance on made-up rows of the sizes it will see, so that no
// client pays for first-time work, and measures them.
func (w *worker) warmUp() error {
	sizes := []int{1}
	s := w.snapshot
	if s.signature.Batchable() && s.options.MaxBatchRows > 1 {
		sizes = append(sizes, s.options.MaxBatchRows)
	}
	for _, rows := range sizes {
		in, err := s.madeUpRows(s.signature.Inputs, rows)
		if err != nil {
			return err
		}
		defer releaseAll(in)
		out, err := s.madeUpRows(s.signature.Outputs, rows)
		if err != nil {
			return err
		}
		defer releaseAll(out)
		if _, err := w.run(clock(), in, out, rows); err != nil {
			return err
		}
		if rows == 1 {
			best(&s.rowNS, w.time(in, out, rows))
		} else if s.properties.MaxRows == 0 || rows <= s.properties.MaxRows {
			best(&s.batchNS, w.time(in, out, rows))
		}
	}
	w.ranRows, w.ranTimes, w.ranNS = 0, 0, 0
	return nil
}

const (
	timingRuns   = 100
	timingBudget = 5 * time.Millisecond
)

// time is the shortest of a few runs of so many rows, in nanoseconds.
func (w *worker) time(in, out []tensor.Tensor, rows int) int64 {
	best := int64(0)
	for begin, i := clock(), 0; i < timingRuns && clock()-begin < int64(timingBudget); i++ {
		start := clock()
		if w.instance.Run(in, out, rows) != nil {
			return 0
		}
		if took := clock() - start; best == 0 || took < best {
			best = took
		}
	}
	return best
}

// madeUpRows are tensors of small positive numbers: no model has a reason to
// treat them specially.
func (s *Snapshot) madeUpRows(specs []TensorSpec, rows int) ([]tensor.Tensor, error) {
	var made []tensor.Tensor
	for i := range specs {
		t, err := s.allocate(&specs[i], rows)
		if err != nil {
			releaseAll(made)
			return nil, err
		}
		made = append(made, t)
		clear(t.Bytes())
		switch t.DType {
		case tensor.FP32:
			fill(t, float32(0.5))
		case tensor.FP64:
			fill(t, 0.5)
		default: // zero is a number of every other type
		}
	}
	return made, nil
}

func fill[T tensor.Element](t tensor.Tensor, value T) {
	elements, err := tensor.View[T](t)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	for i := range elements {
		elements[i] = value
	}
}

func releaseAll(tensors []tensor.Tensor) {
	for _, t := range tensors {
		t.Buffer.Release()
	}
}

package forest

import (
	"sync"
	"unsafe"

	"github.com/picket-ml/picket/internal/cores"
)

// team shares the rows of a Run among the thread that called it and helpers: goroutines that are started for the Run, as
// many as the model's options allow and as there are cores to spare. Everyone takes rows until none are left, so nobody
// waits for a helper that the scheduler starts late. Such a helper finds nothing to do, or rows of the next Run.
type team struct {
	model *model
	help  func() // what a helper's goroutine does, kept because making it anew would allocate

	mu       sync.Mutex
	in, out  unsafe.Pointer // where the rows and the predictions of the next part are
	rows     int            // how many rows nobody has taken yet
	helpers  int            // that were started and have not ended
	busy     int            // helpers that have taken rows and not done them yet
	waiting  bool           // the Run waits for the busy ones
	failure  any            // what a helper panicked with
	finished chan struct{}  // is told when the last busy one is done while the Run waits
	ended    sync.WaitGroup // of the helpers
}

func newTeam(m *model) *team {
	t := &team{model: m, finished: make(chan struct{}, 1)}
	work := t.helper
	if m.bind != nil {
		work = func() { m.bind(t.helper) }
	}
	t.help = func() {
		defer t.ended.Done()
		work()
	}
	return t
}

// run predicts at least model.part rows. One Run at a time; w is the caller's. If anyone panics, so does run, once nobody
// touches the rows any more.
func (t *team) run(w *workspace, in, out unsafe.Pointer, rows int) {
	m := t.model
	t.mu.Lock()
	t.in, t.out, t.rows = in, out, rows
	n := cores.Take(min(m.threads, rows/m.part)-1-t.helpers, m.cores)
	t.helpers += n
	t.mu.Unlock()
	t.ended.Add(n)
	for range n {
		go t.help()
	}
	defer t.wait()
	for {
		in, out, n := t.take()
		if n == 0 {
			break
		}
		w.run(in, out, n)
	}
}

// wait ends a Run: it waits for the helpers that are busy, and nobody takes rows any more.
func (t *team) wait() {
	t.mu.Lock()
	t.in, t.out, t.rows = nil, nil, 0
	t.waiting = t.busy > 0
	wait := t.waiting
	t.mu.Unlock()
	if wait {
		<-t.finished
	}
	t.mu.Lock()
	failure := t.failure
	t.failure = nil
	t.mu.Unlock()
	if failure != nil {
		panic(failure)
	}
}

// helper works until no rows are left. Without memory for it, the others do its part.
func (t *team) helper() {
	w, err := t.model.spares.take(t.model)
	for err == nil {
		in, out, n := t.takeBusy()
		if n == 0 {
			t.model.spares.put(w)
			break
		}
		t.do(w, in, out, n)
	}
	t.mu.Lock()
	t.helpers--
	t.mu.Unlock()
	cores.Give(1)
}

// take gives the next rows to do, none when all are taken: less and less towards the end, so that all end together, but
// no less than a part.
func (t *team) take() (in, out unsafe.Pointer, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next()
}

// takeBusy is take for helpers.
func (t *team) takeBusy() (in, out unsafe.Pointer, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in, out, n = t.next()
	if n > 0 {
		t.busy++
	}
	return in, out, n
}

// do does what a helper took. A panic would end the process from here; from the Run's caller, it ends the Run.
func (t *team) do(w *workspace, in, out unsafe.Pointer, n int) {
	defer func() { t.done(recover()) }()
	w.run(in, out, n)
}

// done says that a helper has done what it took, or panicked with failure.
func (t *team) done(failure any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if failure != nil {
		t.failure = failure
	}
	t.busy--
	if t.busy == 0 && t.rows == 0 && t.waiting {
		t.waiting = false
		t.finished <- struct{}{}
	}
}

func (t *team) next() (in, out unsafe.Pointer, n int) {
	m := t.model
	part := m.part
	n = max(part, t.rows/(2*(t.helpers+1))/part*part)
	if t.rows-n < part {
		n = t.rows
	}
	in, out = t.in, t.out
	t.rows -= n
	if t.rows > 0 {
		t.in, t.out = unsafe.Add(in, 4*n*m.features), unsafe.Add(out, 4*n*m.outputs)
	} else {
		t.in, t.out = nil, nil // the Run's caller owns them
	}
	return in, out, n
}

// Close waits for helpers that have not ended yet; they have nothing to do any more.
func (t *team) Close() { t.ended.Wait() }

package capture

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/tensor"
)

// Sink is where a Tap puts what it has captured: the spool. Both count what they refuse.
type Sink interface {
	// Put may wait, for the disk too.
	Put(entries ...*Entry) error
	// TryPut puts one sample; it neither waits nor allocates: where it would have to, it tells false and has
	// done nothing. It does not look at e when it has returned.
	TryPut(e Encoder) (done bool, err error)
}

// TapOptions is what a Tap is made of.
type TapOptions struct {
	// Ring is how many runs, and RingBytes how many bytes of tensors, may wait to be
	// written. Default 4096 and 64 MiB.
	Ring      int
	RingBytes int64
	// EntryBytes is how large an entry of several inferences may be. Default 1 MiB.
	EntryBytes int64
	// Code is the gRPC code of an error.
	Code func(error) uint32
	// Default is the sampling of models that are not in Models.
	Default Sampling
	Models  map[string]Sampling
}

// Tap is the engine's: it chooses requests on the thread that brought them, and has them
// written down there, where their tensors are in the processor's cache. What cannot be
// without waiting or allocating is kept by counting a reference, in a ring, and a
// goroutine of its own writes it down and lets it go. So it never makes a request wait,
// and allocates nothing on its thread: what there is no room for is dropped, and counted.
type Tap struct {
	o     TapOptions
	ring  ring
	bytes atomic.Int64
	// writing is held by whoever writes down or empties the ring. Threads that answer
	// only try for it.
	writing sync.Mutex
	w       entryWriter
	started atomic.Bool // there is a sink

	// rests says that the writer waits for a token of wake, asleep that it waits for nothing else.
	rests  atomic.Bool
	asleep atomic.Bool
	wake   chan struct{}
	enough int64         // bytes for which it is woken
	begun  chan struct{} // closed when there is a sink, or when there will be none
	ended  chan struct{}
	stop   chan struct{}
	once   sync.Once
	closed atomic.Bool
	sink   Sink

	taken   atomic.Uint64
	dropped [drops]atomic.Uint64

	mu     sync.Mutex
	rules  TapOptions // Default and Models
	models []*modelTap
}

// Why inferences that were chosen are dropped.
const (
	noSlot  = iota // the ring was full
	noBytes        // their tensors would have been too much
	noSink         // the spool was not there, or took nothing more
	drops
)

// TapStats is what a Tap has done, in inferences.
type TapStats struct {
	// Taken are those that were given to the spool, which counts what it refuses.
	Taken uint64
	// DroppedRing, DroppedBytes and DroppedClosed are those that were not: because too
	// many waited, because their tensors were too much, and because the spool was not
	// there.
	DroppedRing, DroppedBytes, DroppedClosed uint64
	// WaitingBytes is what the tensors take that wait to be written.
	WaitingBytes int64
}

// NewTap makes a Tap that chooses at once, and writes nothing before Start.
func NewTap(o TapOptions) *Tap {
	if o.Ring == 0 {
		o.Ring = 4096
	}
	if o.RingBytes == 0 {
		o.RingBytes = 64 << 20
	}
	if o.EntryBytes == 0 {
		o.EntryBytes = 1 << 20
	}
	if o.Code == nil {
		o.Code = func(error) uint32 { return 2 }
	}
	t := &Tap{
		o: o, rules: o, wake: make(chan struct{}, 1), begun: make(chan struct{}), ended: make(chan struct{}), stop: make(chan struct{}),
	}
	t.w.tap = t
	t.enough = min(mostBytes, max(1, o.RingBytes/4))
	t.ring.init(o.Ring)
	go t.run()
	return t
}

// Start says where to write. It is called at most once.
func (t *Tap) Start(sink Sink) {
	t.once.Do(func() {
		t.sink = sink
		t.started.Store(true)
		close(t.begun)
	})
}

// Close writes what waits, if there is a sink, and ends. What is shown later is dropped.
func (t *Tap) Close() {
	if t.closed.Swap(true) {
		<-t.ended
		return
	}
	t.once.Do(func() { close(t.begun) })
	close(t.stop)
	<-t.ended
}

// Stats is what the Tap has done.
func (t *Tap) Stats() TapStats {
	return TapStats{
		Taken: t.taken.Load(), DroppedRing: t.dropped[noSlot].Load(), DroppedBytes: t.dropped[noBytes].Load(),
		DroppedClosed: t.dropped[noSink].Load(), WaitingBytes: t.bytes.Load(),
	}
}

// SetSampling changes which requests are captured, of models that are loaded too.
func (t *Tap) SetSampling(byDefault Sampling, models map[string]Sampling) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules.Default, t.rules.Models = byDefault, models
	for _, m := range t.models {
		m.chooser.Store(newChooser(t.rules.of(m.name), &m.signature))
	}
}

func (o *TapOptions) of(name string) Sampling {
	if s, ok := o.Models[name]; ok {
		return s
	}
	return o.Default
}

// modelTap is the Tap for one model. What each request needs of it comes first, and together, because the model's run has thrown it out of
// the processor's caches.
type modelTap struct {
	chooser atomic.Pointer[chooser]
	tally   tally
	tap     *Tap
	layout  *layout // nil where its runs are written down as entries only
	// rowBytes and fixedBytes are those of its tensors.
	rowBytes, fixedBytes int64

	name      string
	version   string
	signature engine.Signature
}

// maxModels is how many models, those replaced since included, follow SetSampling.
const maxModels = 4096

// Model implements engine.Tap.
func (t *Tap) Model(d engine.Description) engine.ModelTap {
	m := &modelTap{tap: t, name: d.Name, version: d.Version, signature: d.Signature}
	for _, side := range [2][]engine.TensorSpec{d.Signature.Inputs, d.Signature.Outputs} {
		for i := range side {
			n, err := side[i].RowBytes()
			if err != nil {
				return nil // no request can be made for it either
			}
			if side[i].HasRows() {
				m.rowBytes += int64(n)
			} else {
				m.fixedBytes += int64(n)
			}
		}
	}
	m.tally.place.Store(rand.Uint64())
	m.layout = newLayout(&d)
	t.mu.Lock()
	defer t.mu.Unlock()
	m.chooser.Store(newChooser(t.rules.of(d.Name), &m.signature))
	// A model that replaces another has the name's place.
	for i, old := range t.models {
		if old.name == d.Name {
			t.models[i] = m
			return m
		}
	}
	if len(t.models) < maxModels {
		t.models = append(t.models, m)
	}
	return m
}

// Wants implements engine.ModelTap.
func (m *modelTap) Wants() bool { return m.chooser.Load().any }

// Ended implements engine.ModelTap.
func (m *modelTap) Ended(r *engine.Request, err error) {
	c := m.chooser.Load()
	if !c.any {
		return
	}
	parts := r.Parts()
	one := c.chance && err == nil && len(parts) <= 1
	if one && !c.byChance(&m.tally) {
		return // as most are, with little looked at
	}
	if err != nil && (len(parts) > 1 && errors.Is(err, engine.ErrRun) || !isFailure(err)) {
		return // the parts are run again by themselves; or nothing failed
	}
	it := item{request: r, model: m, err: err}
	switch {
	case one || c.all && err == nil:
		it.why, it.chosen, it.every = ByRate, uint64(max(1, len(parts))), true
	case len(parts) == 0:
		if it.why = c.choose(&m.tally, r.Outputs, 0, r.Rows, err != nil); it.why != 0 {
			it.chosen = 1
		}
	case c.chance && err == nil: // none has a reason yet
		d := m.tally.draws()
		for left := parts; len(left) > 0; left = left[min(64, len(left)):] {
			for chosen := c.chances(&d); chosen > 0; chosen &= chosen - 1 {
				i := bits.TrailingZeros64(chosen)
				if i >= len(left) {
					break
				}
				left[i].Why = uint8(ByRate)
				it.why = ByRate
				it.chosen++
			}
		}
	default:
		at := 0
		for i := range parts {
			p := &parts[i]
			w := c.choose(&m.tally, r.Outputs, at, p.Rows, err != nil)
			if p.Why = uint8(w); w != 0 {
				it.chosen++
				it.why |= w
			}
			at += p.Rows
		}
	}
	if it.chosen > 0 {
		it.size = m.fixedBytes + m.rowBytes*int64(r.Rows)
		if !m.tap.writeHere(&it) {
			m.tap.push(&it)
		}
	}
}

// isFailure tells whether an error says something of the model or its requests: that
// the daemon was busy or a caller left does not.
func isFailure(err error) bool {
	return !errors.Is(err, engine.ErrBusy) && !errors.Is(err, engine.ErrCanceled) && !errors.Is(err, engine.ErrClosed) && !errors.Is(err, engine.ErrMemory)
}

// mostHere is how many bytes of tensors are copied on the thread that answers.
const mostHere = 64 << 10

// writeHere writes a request down on this thread, or tells that it is for the writer: where another thread writes, the spool would
// make it wait, or memory is needed, for the text of an error or a name.
func (t *Tap) writeHere(it *item) bool {
	if it.err != nil || it.size > mostHere || len(it.request.ID()) > 0 || !t.started.Load() || !t.writing.TryLock() {
		return false
	}
	defer t.writing.Unlock()
	return !t.closed.Load() && t.w.tryWrite(it)
}

// push keeps a request for the writer.
func (t *Tap) push(it *item) {
	size, chosen := it.size, it.chosen
	if t.closed.Load() {
		t.dropped[noSink].Add(chosen)
		return
	}
	waiting := t.bytes.Add(size)
	if waiting > t.o.RingBytes {
		t.bytes.Add(-size)
		t.dropped[noBytes].Add(chosen)
		return
	}
	if it.err != nil {
		it.at = time.Now()
	}
	it.request.Keep()
	pushed, many := t.ring.push(it)
	if !pushed {
		it.request.LetGo()
		t.bytes.Add(-size)
		t.dropped[noSlot].Add(chosen)
		return
	}
	if t.closed.Load() {
		t.discard() // the writer may have looked for the last time
		return
	}
	if (many || waiting >= t.enough || t.asleep.Load()) && t.rests.CompareAndSwap(true, false) {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// The writer looks every pause, so that callers seldom have to wake it: only where so much waits that more would fall out of the
// processor's cache, or where it has found nothing so many times and sleeps. A pause is as long as the spool's own: the writer not only
// takes a processor from a request in a thousand then, it also parts a client and its connection that the system had put on one
// processor, and until they find together again each request costs more.
const (
	pause       = 100 * time.Millisecond
	patience    = 20
	mostBytes   = 256 << 10
	mostWaiting = 1024
)

// run is the writer.
func (t *Tap) run() {
	defer close(t.ended)
	<-t.begun
	look := alarm.New()
	defer look.Close()
	for idle := 0; ; {
		if t.drain() {
			idle = 0
		} else {
			idle++
		}
		t.asleep.Store(idle > patience)
		t.rests.Store(true)
		due := look.C()
		if t.asleep.Load() {
			if due = nil; !t.ring.empty() {
				idle = 0
				continue // it came before anybody could know
			}
		} else {
			look.Set(pause)
		}
		select {
		case <-due:
		case <-t.wake:
			idle = 0
		case <-t.stop:
			t.drain()
			return
		}
		t.rests.Store(false)
	}
}

// discard empties the ring of a Tap that is closed.
func (t *Tap) discard() {
	t.writing.Lock()
	defer t.writing.Unlock()
	var it item
	for t.ring.pop(&it) {
		t.dropped[noSink].Add(it.chosen)
		it.request.LetGo()
		t.bytes.Add(-it.size)
	}
}

// drain writes what is in the ring, and tells whether there was anything.
func (t *Tap) drain() (any bool) {
	t.writing.Lock()
	defer t.writing.Unlock()
	var it item
	for t.ring.pop(&it) {
		any = true
		if t.sink == nil {
			t.dropped[noSink].Add(it.chosen)
		} else {
			t.w.write(&it)
		}
		it.request.LetGo()
		t.bytes.Add(-it.size)
		it = item{}
	}
	return any
}

// entryWriter makes entries of requests. It is used again for each, so that in
// steady state nothing is allocated.
type entryWriter struct {
	tap *Tap
	// trying says that the sink is only tried, done that it has taken the entry then, or refused it.
	trying, done bool

	run run // what is tried, but for what has a name or is no rows
	// read and wall are one moment, by the clock that Ran tells and by the host's, in nanoseconds since 1970.
	read time.Duration
	wall int64

	entry  Entry
	one    [1]*Entry
	shapes []int64
	// gathered are rows that do not lie together in their request.
	gathered []byte
}

// tryWrite is write where that takes the sink no waiting; it tells whether it was so, and has done nothing else. What would be several
// entries is not tried, because the first of them may be taken and the next not.
func (w *entryWriter) tryWrite(it *item) (done bool) {
	if w.run.of(it, w.tap.o.EntryBytes) {
		w.run.at = w.over(it.request)
		done, err := w.tap.sink.TryPut(&w.run)
		w.run.request = nil
		if done && err == nil { // the sink counts what it refuses
			w.tap.taken.Add(it.chosen)
		}
		return done
	}
	if len(it.request.Parts()) > 1 {
		return false
	}
	w.trying, w.done = true, false
	w.write(it)
	w.trying = false
	return w.done
}

// wallFor is how long the host's clock is believed to go as the other does. Where it is set, what was captured has the old time so long.
const wallFor = 10 * time.Millisecond

// over is when the request's run was over, in nanoseconds since 1970. It seldom looks at the clocks, which takes as long as copying some rows.
func (w *entryWriter) over(r *engine.Request) int64 {
	ran := r.Ran()
	if since := ran - w.read; since < 0 || since > wallFor || w.wall == 0 {
		w.read, w.wall = ran, r.Over(time.Now()).UnixNano()
	}
	return w.wall + int64(ran-w.read)
}

// write gives what was chosen of a request to the sink.
func (w *entryWriter) write(it *item) {
	e := &w.entry
	r := it.request
	*e = Entry{Record: Record{Kind: Sample, Why: it.why, Inputs: e.Inputs[:0], Outputs: e.Outputs[:0]}, Parts: e.Parts[:0]}
	e.Model, e.Version = it.model.name, it.model.version
	if it.err != nil {
		e.Time, e.Code, e.Error = it.at, w.tap.o.Code(it.err), clip(it.err.Error())
	} else {
		e.Time = r.Over(time.Now())
	}
	parts := r.Parts()
	if len(parts) == 0 {
		p := Part{Rows: uint32(r.Rows)}
		if id := r.ID(); len(id) <= MaxInference {
			p.Inference = string(id) // a longer one is not the caller's to find again
		}
		e.Parts = append(e.Parts, p)
		w.all(r, it.err != nil)
		w.put(1)
		return
	}
	e.Numbered, e.Origin = true, r.Origin()
	if it.chosen == uint64(len(parts)) && (len(parts) == 1 || it.size <= w.tap.o.EntryBytes) {
		e.Parts = slices.Grow(e.Parts, len(parts))[:len(parts)]
		for i := range parts {
			e.Parts[i] = Part{Number: parts[i].Number, Rows: uint32(parts[i].Rows)}
		}
		w.all(r, it.err != nil)
		w.put(it.chosen)
		return
	}
	if it.size <= w.tap.o.EntryBytes && w.haveRows(r) {
		w.some(it)
		return
	}
	at := 0
	for i := range parts {
		p := &parts[i]
		why := Why(p.Why)
		if it.every {
			why = it.why
		}
		if why != 0 {
			e.Parts, e.Why = append(e.Parts[:0], Part{Number: p.Number, Rows: uint32(p.Rows)}), why
			w.rows(r, at, p.Rows, it.err != nil)
			w.put(1)
		}
		at += p.Rows
	}
}

// haveRows tells whether all tensors of a request are rows.
func (w *entryWriter) haveRows(r *engine.Request) bool {
	for _, side := range [2][]tensor.Tensor{r.Inputs, r.Outputs} {
		for i := range side {
			if side[i].Shape.Rank() == 0 || side[i].Shape.Dim(0) != int64(r.Rows) {
				return false
			}
		}
	}
	return true
}

// some writes the parts that were chosen, those for the same reasons together: what an entry costs beside its rows is more than a row.
func (w *entryWriter) some(it *item) {
	var reasons [allWhy + 1]bool
	parts := it.request.Parts()
	for i := range parts {
		reasons[parts[i].Why] = true
	}
	e := &w.entry
	for why := ByRate; why <= allWhy; why++ {
		if !reasons[why] {
			continue
		}
		e.Why, e.Parts = why, e.Parts[:0]
		rows := 0
		for i := range parts {
			if p := &parts[i]; Why(p.Why) == why {
				e.Parts = append(e.Parts, Part{Number: p.Number, Rows: uint32(p.Rows)})
				rows += p.Rows
			}
		}
		// What was taken before stays where it is when the room grows: the tensors point to it.
		w.gathered = w.gathered[:0]
		w.all(it.request, it.err != nil)
		for _, side := range [2][]Tensor{e.Inputs, e.Outputs} {
			for i := range side {
				side[i].Data, side[i].Shape[0] = w.gather(parts, why, side[i].Data, it.request.Rows), int64(rows)
			}
		}
		w.put(uint64(len(e.Parts)))
	}
}

// gather copies the rows of the parts that were chosen for these reasons, and returns the copy.
func (w *entryWriter) gather(parts []engine.Part, why Why, data []byte, rows int) []byte {
	start, at, row := len(w.gathered), 0, len(data)/rows
	for i := range parts {
		n := parts[i].Rows * row
		if Why(parts[i].Why) == why {
			w.gathered = append(w.gathered, data[at:at+n]...)
		}
		at += n
	}
	return w.gathered[start:len(w.gathered):len(w.gathered)]
}

// all are the tensors of a whole request.
func (w *entryWriter) all(r *engine.Request, failed bool) { w.rows(r, 0, r.Rows, failed) }

// rows are those tensors of some rows of a request.
func (w *entryWriter) rows(r *engine.Request, first, n int, failed bool) {
	e := &w.entry
	e.Inputs, e.Outputs, w.shapes = e.Inputs[:0], e.Outputs[:0], w.shapes[:0]
	for i := range r.Inputs {
		e.Inputs = append(e.Inputs, w.tensor(r, i, first, n, true))
	}
	if failed {
		return
	}
	outputs := len(r.Outputs)
	if r.Explain {
		outputs-- // contributions are no answer of the model, and can be had again
	}
	for i := range outputs {
		e.Outputs = append(e.Outputs, w.tensor(r, i, first, n, false))
	}
}

func (w *entryWriter) tensor(r *engine.Request, i, first, n int, input bool) Tensor {
	t := &r.Outputs
	if input {
		t = &r.Inputs
	}
	from := (*t)[i]
	if from.Shape.Rank() > 0 && n < r.Rows {
		from = from.Rows(first, first+n)
	}
	start := len(w.shapes)
	w.shapes = from.Shape.AppendDims(w.shapes)
	return Tensor{Name: from.Name, DType: from.DType, Shape: w.shapes[start:len(w.shapes):len(w.shapes)], Data: from.Bytes()}
}

// put gives the entry away.
func (w *entryWriter) put(n uint64) {
	var err error
	if w.trying {
		w.done, err = w.tap.sink.TryPut(&w.entry)
	} else {
		w.one[0], w.done = &w.entry, true
		err = w.tap.sink.Put(w.one[:]...)
		w.one[0] = nil
	}
	if w.done && err == nil { // the sink counts what it refuses
		w.tap.taken.Add(n)
	}
}

// clip keeps an error's text within what a record holds.
func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText]
	}
	return text
}

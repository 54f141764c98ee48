package engine

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// Snapshot is a model as it was loaded under a name: immutable, warmed up, and
// counted. It stays usable for whoever acquired it even after the name was
// unloaded or given to another model; it closes with its last reference.
type Snapshot struct {
	name        string
	description Description
	signature   Signature
	properties  Properties
	options     ModelOptions
	asked       ModelOptions // before defaults and what depends on the model
	cores       cores
	model       Model
	allocator   Allocator // model, where it has memory of its own; else nil
	log         *slog.Logger
	queue       queue
	stats       counters
	tap         ModelTap     // nil for none
	rowNS       atomic.Int64 // measured at warm-up
	batchNS     atomic.Int64 // of the largest batch
	inlineRows  int          // see Inline
	pinFailed   atomic.Bool  // said so once
	allocFailed atomic.Bool  // the same of the allocator
	requests    sync.Pool    // of Requests that are not in use, which hold no tensors

	refs    atomic.Int64
	workers sync.WaitGroup
	onClose func()        // tells the engine
	closed  chan struct{} // closed when everything is
}

// Description is what there is to say about a loaded model.
type Description struct {
	Name string
	// Generation tells the models apart that had the name one after the other: no two
	// models of an engine have the same.
	Generation uint64
	// URL is where the artifact came from, as it was asked for.
	URL string
	// Backend and Variant are what was chosen, Version the artifact's own.
	Backend, Variant, Version string
	// Devices are the UUIDs of the GPUs that run it; none for the processor.
	Devices   []string
	Inline    bool
	Signature Signature
	Options   ModelOptions
	// Package is what was known of the package it came from; nil for nothing.
	Package *Package
	// Candidates are all backends: the chosen one, those that were timed against
	// it, fastest first, and the rest in the order of the engine's list.
	Candidates []Candidate
}

// Candidate is one way the model could be run.
//
// Where several backends can, all that open are timed with requests of
// ModelOptions.ExpectedRows rows, and the fastest is chosen whose answers agree
// with those of the best match on some hundred rows: floating-point numbers within
// 1e-5 of the larger one and 1e-5 of the tensor's largest, or of 1 if that is less,
// everything else equal. A backend that matches better is kept
// unless another is clearly faster.
type Candidate struct {
	Backend string `json:"backend"`
	Variant string `json:"variant"` // empty where it was not opened, or has no name
	Chosen  bool   `json:"chosen"`
	// USPerRow is how long a row took when backends were timed, in microseconds, or,
	// of one that was chosen without that, at warm-up; 0 when it was not measured.
	USPerRow float64 `json:"us_per_row"`
	// Reason says why it was chosen or not, in a sentence.
	Reason string `json:"reason"`
}

// startSnapshot starts and warms up the instances of an opened model, which it
// takes over: after an error model is closed.
func startSnapshot(model Model, description Description, options ModelOptions, cores cores, host *hw.Host, log *slog.Logger) (*Snapshot, error) {
	s := &Snapshot{
		name: description.Name, description: description, cores: cores, model: model, log: log, closed: make(chan struct{}),
		requests: sync.Pool{New: newRequest},
	}
	var err error
	if s.signature, s.properties, err = describe(log, s.name, model); err == nil {
		options, err = settle(options, s.signature, &s.properties, cores, host)
	}
	if err != nil {
		s.closeModel()
		return nil, err
	}
	s.options = options
	s.allocator, _ = model.(Allocator)
	s.queue = queue{
		inline:      s.properties.Inline && options.BatchDelay == 0,
		anywhere:    s.properties.Anywhere && options.BatchDelay == 0,
		batchable:   s.signature.Batchable(),
		maxRequests: options.MaxQueue,
		maxRows:     options.MaxBatchRows,
		delay:       options.BatchDelay,
		instances:   options.Instances,
		idle:        make([]*worker, 0, options.Instances),
	}
	if s.properties.MaxRows > 0 {
		s.queue.maxRows = min(s.queue.maxRows, s.properties.MaxRows)
	}
	ready := make(chan error, options.Instances)
	for range options.Instances {
		w := newWorker(s)
		s.queue.workers = append(s.queue.workers, w)
		s.workers.Go(func() { w.serve(ready) })
	}
	var failed error
	for range options.Instances {
		if err := <-ready; err != nil {
			failed = err
		}
	}
	if failed != nil {
		s.queue.close()
		s.workers.Wait()
		s.closeModel()
		return nil, failed
	}
	s.refs.Store(1)
	s.queue.learn(s.rowNS.Load(), s.batchNS.Load(), options.MaxBatchRows)
	s.inlineRows = rowsWithin(handOver, s.rowNS.Load(), s.batchNS.Load(), options.MaxBatchRows)
	s.description.Signature, s.description.Options = s.signature, options
	if p := s.description.Package; p != nil && p.Version != "" {
		s.properties.Version = p.Version
	}
	s.description.Variant, s.description.Version, s.description.Inline = s.properties.Variant, s.properties.Version, s.properties.Inline
	s.description.Devices = s.properties.Devices
	for i := range s.description.Candidates {
		if c := &s.description.Candidates[i]; c.Chosen {
			c.Variant = s.properties.Variant
			if c.USPerRow == 0 {
				c.USPerRow = float64(s.rowNS.Load()) / 1e3
			}
			for _, n := range s.properties.Notes {
				c.Reason += "; " + n.Text
			}
		}
	}
	byPreference(s.description.Candidates)
	return s, nil
}

// settle fills in what depends on the model, and refuses a model whose signature
// makes no sense or whose tensors do not fit the machine. A model that is to keep to
// some cores is neither inline nor run anywhere: callers' threads are not to be bound.
func settle(o ModelOptions, s Signature, p *Properties, cores cores, host *hw.Host) (ModelOptions, error) {
	if err := s.check(); err != nil {
		return o, fmt.Errorf("%w: %w", ErrArtifact, err)
	}
	if o.Instances == 0 {
		o.Instances = min(cmp.Or(p.Instances, max(1, len(p.Devices))), maxInstances)
		if p.Inline {
			o.Instances = min(max(1, int(math.Ceil(host.CPU.CoresAllowed))), maxInstances)
			if cores != nil {
				o.Instances = min(o.Instances, len(cores))
			}
		}
	}
	if o.MaxBatchRows == 0 {
		o.MaxBatchRows = cmp.Or(p.BatchRows, batchRows)
	}
	p.Inline, p.Anywhere = p.Inline && cores == nil, p.Anywhere && cores == nil
	if p.MaxInstances > 0 {
		o.Instances = min(o.Instances, p.MaxInstances)
	}
	if err := s.fits(o, &host.Memory); err != nil {
		return o, fmt.Errorf("%w: %w", ErrMemory, err)
	}
	return o, nil
}

// handOver is about what it costs to have another thread run a request and its caller
// woken again: twice what a processor takes to wake another on a virtual machine.
const handOver = 80 * time.Microsecond

// rowsWithin is how many rows a run has that is over within limit, by how long a
// run of one row takes and one of batch rows; 0 for none or where that is not known.
func rowsWithin(limit time.Duration, rowNS, batchNS int64, batch int) int {
	spare := int64(limit) - rowNS
	switch {
	case rowNS == 0 || spare < 0:
		return 0
	case batch == 1 || batchNS == 0:
		return 1
	case batchNS <= int64(limit):
		return batch
	}
	return 1 + int(spare*int64(batch-1)/(batchNS-rowNS))
}

// best takes over what a worker found at warm-up: the best of all of them.
func best(of *atomic.Int64, ns int64) {
	for {
		have := of.Load()
		if ns == 0 || (have != 0 && have <= ns) || of.CompareAndSwap(have, ns) {
			return
		}
	}
}

// Describe is what there is to say about the model. The slices are shared and
// must not be changed.
func (s *Snapshot) Describe() Description { return s.description }

// Inline tells whether Predict of so many rows may run them on the thread that it
// is called on, and would not be longer at it, waiting included, than at handing them
// over. A server that reads many requests on one thread has others predicted
// elsewhere: what is not read cannot be refused, and its deadline has not begun.
func (s *Snapshot) Inline(rows int) bool { return s.Cheap(rows) && s.queue.turn(rows) <= handOver }

// AtOnce tells whether Predict of so many rows, if it came now, would run them on the thread
// that it is called on, and is expected to be over within 50 ms. It is for servers that have
// nothing else to do meanwhile.
func (s *Snapshot) AtOnce(rows int) bool { return s.queue.atOnce(rows) }

// Cheap is Inline but for the waiting.
func (s *Snapshot) Cheap(rows int) bool { return s.queue.inline && rows <= s.inlineRows }

// Refuses fails with ErrBusy where a request of so many rows would be refused if it
// came now, for the reasons for which Predict refuses it; the zero Deadline and
// Priority are those of the model. It is for servers that have read requests which
// are not worth being copied: in an overload those are most. The caller counts what
// it refuses with Refused. That it does not fail promises nothing.
func (s *Snapshot) Refuses(rows int, deadline time.Time, p Priority) error {
	if p == Unnamed {
		p = s.options.Priority
	}
	arrived := clock()
	return s.queue.refuses(rows, p, arrived, s.due(arrived, deadline))
}

// CanExplain fails, with ErrInvalidInput, where the model gives no contributions.
func (s *Snapshot) CanExplain() error {
	if s.signature.Contributions == nil {
		return fmt.Errorf("%w: model %q does not tell what its features contribute: load it with explain: true", ErrInvalidInput, s.name)
	}
	return nil
}

// Signature is what the model takes and gives.
func (s *Snapshot) Signature() *Signature { return &s.signature }

// Name is what the model was loaded as.
func (s *Snapshot) Name() string { return s.name }

// Version is the artifact's own; it may be empty.
func (s *Snapshot) Version() string { return s.properties.Version }

// Refused counts a request that did not become one, for the reason err: what its
// client sent does not fit the model, or there was no memory for it.
func (s *Snapshot) Refused(err error) { s.stats.refuse(err) }

// Stats is what the model has done.
func (s *Snapshot) Stats() Stats {
	stats := s.stats.snapshot()
	stats.WaitingRequests, stats.WaitingRows = s.queue.length()
	return stats
}

// Backlog is about how long a request that comes now waits for its turn: never
// less than what a run takes, as far as that is known.
func (s *Snapshot) Backlog() time.Duration { return s.queue.backlog() }

func newRequest() any { return &Request{done: make(chan struct{}, 1)} }

// NewRequest makes a request with uncleared input tensors for that many rows,
// for the caller to fill, predict and release. It holds a reference on s until
// it is released. It fails with ErrInvalidInput when rows is not positive, or
// not 1 for a model without a variable dimension, and with ErrMemory.
func (s *Snapshot) NewRequest(rows int) (*Request, error) {
	if rows < 1 || (rows > 1 && !s.queue.batchable) {
		return nil, fmt.Errorf("%w: %d rows; the model takes %s", ErrInvalidInput, rows, rowsTaken(s.queue.batchable))
	}
	r := s.requests.Get().(*Request)
	r.snapshot, r.Rows = s, rows
	r.refs.Store(1)
	s.refs.Add(1)
	for i := range s.signature.Inputs {
		t, err := s.allocate(&s.signature.Inputs[i], rows)
		if err != nil {
			r.Release()
			return nil, err
		}
		r.Inputs = append(r.Inputs, t)
	}
	return r, nil
}

// allocate makes a tensor as the spec says, in locked memory if the model was
// loaded so and the limits allow.
func (s *Snapshot) allocate(spec *TensorSpec, rows int) (tensor.Tensor, error) {
	shape, err := spec.Shape(rows)
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("%w: %w", ErrInvalidInput, err)
	}
	if s.allocator != nil {
		if t, ok := s.allocateOwn(spec, shape); ok {
			return t, nil
		}
	}
	t, err := tensor.New(spec.Name, spec.DType, shape)
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("%w: %w", ErrMemory, err)
	}
	if s.options.Pin && !t.Buffer.Pinned() {
		if err := t.Buffer.Pin(); err != nil && !s.pinFailed.Swap(true) {
			s.log.Warn("serving without pinned memory", "model", s.name, "error", err)
		}
	}
	return t, nil
}

// allocateOwn makes a tensor in memory of the model's own; false where it has none
// left.
func (s *Snapshot) allocateOwn(spec *TensorSpec, shape tensor.Shape) (tensor.Tensor, bool) {
	n, err := shape.ByteSize(spec.DType)
	if err != nil || n == 0 {
		return tensor.Tensor{}, false // ordinary memory's to refuse
	}
	t, err := tensorFrom(s.allocator, spec, shape, n)
	if err != nil {
		if !s.allocFailed.Swap(true) {
			s.log.Warn("serving with tensors in ordinary memory, because the model's own has run out", "model", s.name, "error", err)
		}
		return tensor.Tensor{}, false
	}
	return t, true
}

// tensorFrom makes a tensor of n bytes in memory that a model gives.
func tensorFrom(from Allocator, spec *TensorSpec, shape tensor.Shape, n int) (tensor.Tensor, error) {
	b, err := from.Allocate(n)
	if err != nil {
		return tensor.Tensor{}, err
	}
	t, err := tensor.In(spec.Name, spec.DType, shape, b, 0)
	if err != nil {
		b.Release()
	}
	return t, err
}

func rowsTaken(batchable bool) string {
	if batchable {
		return "one or more"
	}
	return "its fixed shape only"
}

// retain counts a reference unless the last one is gone already.
func (s *Snapshot) retain() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives back what Engine.Acquire gave.
func (s *Snapshot) Release() {
	switch n := s.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("BUG: an engine.Snapshot was released more often than acquired")
	}
	// Not here: the caller may be one of the workers that close waits for.
	go s.close()
}

func (s *Snapshot) close() {
	s.queue.close()
	s.workers.Wait()
	s.closeModel()
	s.onClose()
	close(s.closed)
}

func (s *Snapshot) closeModel() {
	closing(s.log, "model", s.name, s.description.Backend, s.model)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/hw"
)

// Engine keeps models under names and answers predictions. Its methods may be
// called by many goroutines at once.
type Engine struct {
	host     *hw.Host
	source   Source
	log      *slog.Logger
	defaults atomic.Pointer[ModelOptions]
	backends []probed
	version  string

	decisions Decisions // nil: none are remembered
	// timing is taken by the one load that times backends: two at once would
	// measure each other, and live traffic would suffer from both.
	timing chan struct{}
	now    func() int64 // nanoseconds, for timing backends

	observer Observer // nil for nobody
	tap      Tap      // nil for nobody

	// models is replaced, never changed, so that acquiring a model takes no
	// lock. Replacing it does.
	models atomic.Pointer[map[string]*Snapshot]

	mu         sync.Mutex
	loading    map[string]struct{} // names reserved by a Load under way
	generation uint64              // of the model that was made visible last
	closed     bool
	live       sync.WaitGroup // loads under way and snapshots that are not closed yet
}

type probed struct {
	Backend
	unusable error
}

// BackendStatus is what the probe of a backend said.
type BackendStatus struct {
	Name   string
	OK     bool
	Reason string // why not, in a sentence
}

// New makes an engine and probes the backends.
func New(o Options) (*Engine, error) {
	if o.Source == nil {
		return nil, errors.New("making an engine: it needs a source")
	}
	if o.Host == nil {
		detect, err := hw.OptionsFromEnv(os.Getenv)
		if err != nil {
			return nil, fmt.Errorf("making an engine: %w", err)
		}
		o.Host = hw.Detect(context.Background(), detect)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		host: o.Host, source: o.Source, log: o.Log,
		version: o.Version, decisions: o.Decisions, observer: o.Observer, tap: o.Tap, timing: make(chan struct{}, 1), now: clock,
		loading: make(map[string]struct{}),
	}
	for _, b := range o.Backends {
		if slices.ContainsFunc(e.backends, func(p probed) bool { return p.Name() == b.Name() }) {
			return nil, fmt.Errorf("making an engine: two backends are named %s", b.Name())
		}
		e.backends = append(e.backends, probed{b, b.Probe(o.Host)})
	}
	if err := e.SetDefaults(o.Defaults); err != nil {
		return nil, fmt.Errorf("making an engine: %w", err)
	}
	e.models.Store(&map[string]*Snapshot{})
	return e, nil
}

// SetDefaults changes what Options.Defaults said, for the loads that begin from now
// on. When it fails nothing changes.
func (e *Engine) SetDefaults(o ModelOptions) error {
	o = o.or(builtinOptions)
	if o.Threads == 0 {
		o.Threads = min(max(1, int(e.host.CPU.CoresAllowed)), maxInstances)
	}
	if err := o.check(); err != nil {
		return err
	}
	if err := e.knows(o.Backend); err != nil {
		return err
	}
	if _, err := coresOf(o.Cores, e.host); err != nil {
		return err
	}
	e.defaults.Store(&o)
	return nil
}

// Host is what the engine runs on.
func (e *Engine) Host() *hw.Host { return e.host }

// Backends tells what the probes said, in the order of the list.
func (e *Engine) Backends() []BackendStatus {
	statuses := make([]BackendStatus, len(e.backends))
	for i, b := range e.backends {
		statuses[i] = BackendStatus{Name: b.Name(), OK: b.unusable == nil}
		if b.unusable != nil {
			statuses[i].Reason = b.unusable.Error()
		}
	}
	return statuses
}

// knows fails when a backend is forced that is not in the list.
func (e *Engine) knows(backend string) error {
	names := make([]string, len(e.backends))
	for i, b := range e.backends {
		names[i] = b.Name()
	}
	if backend == "" || slices.Contains(names, backend) {
		return nil
	}
	return fmt.Errorf("there is no backend %q; there are %s", backend, strings.Join(names, ", "))
}

// Load opens the artifact at url and serves it under name, once it is warmed
// up. It fails with ErrExists, and nothing changes, when the name is taken.
func (e *Engine) Load(ctx context.Context, name, url string, o ModelOptions) (Description, error) {
	return e.load(ctx, name, url, o, false)
}

// Replace is Load for a name that may be taken: the model that has it serves
// until the new one is warmed up, and its requests under way are still its own.
// It fails with ErrSignature, and nothing changes, when the two take or give
// different tensors.
func (e *Engine) Replace(ctx context.Context, name, url string, o ModelOptions) (Description, error) {
	return e.load(ctx, name, url, o, true)
}

// Reopen loads what is loaded under name again, from where it came and as it was asked
// for, in its own place: for a model whose backend cannot go on with it, so that another
// device or backend may. When it fails nothing changes.
func (e *Engine) Reopen(ctx context.Context, name string) (Description, error) {
	s, err := e.Acquire(name)
	if err != nil {
		return Description{}, fmt.Errorf("reopening: %w", err)
	}
	url, asked := s.description.URL, s.asked
	s.Release()
	return e.load(ctx, name, url, asked, true)
}

func (e *Engine) load(ctx context.Context, name, url string, o ModelOptions, replace bool) (Description, error) {
	start := time.Now()
	change := Change{Kind: Loading, Model: name, URL: url}
	if replace && (*e.models.Load())[name] != nil {
		change.Kind = Replacing
	}
	done := e.changing(ctx, change)
	s, err := e.prepare(ctx, name, url, o, replace)
	if err != nil {
		done(Description{}, err)
		e.log.Error("loading a model", "model", name, "url", url, "error", err)
		return Description{}, fmt.Errorf("loading model %q: %w", name, err)
	}
	d := s.description
	done(d, nil)
	e.log.Info("model loaded", "model", name, "url", url, "backend", d.Backend, "variant", d.Variant, "version", d.Version,
		"instances", d.Options.Instances, "took", time.Since(start).Round(time.Microsecond))
	for _, n := range s.properties.Notes {
		e.log.Log(ctx, n.Level, "how the model answers", "model", name, "url", url, "backend", d.Backend, "note", n.Text)
	}
	return d, nil
}

// prepare does the work of load: everything that takes time without the lock,
// the swap with it.
func (e *Engine) prepare(ctx context.Context, name, url string, o ModelOptions, replace bool) (*Snapshot, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	asked := o
	o = o.or(*e.defaults.Load())
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidInput, err)
	}
	cores, err := coresOf(o.Cores, e.host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidInput, err)
	}
	if cores != nil {
		o.Threads = min(o.Threads, len(cores))
	}
	if err := e.knows(o.Backend); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidInput, err)
	}
	if err := e.reserve(name, replace); err != nil {
		return nil, err
	}
	defer e.unreserve(name)

	a, err := e.source.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	s, err := e.openBest(ctx, name, a, o, cores)
	if err != nil {
		return nil, err
	}
	e.live.Add(1)
	s.onClose, s.asked = e.live.Done, asked
	err = s.prove(ctx, a.Package)
	if err == nil && ctx.Err() != nil {
		err = contextError(ctx.Err()) // whoever gave up will not expect the model to be there
	}
	if err == nil {
		err = e.accept(s, a.Package)
	}
	if err != nil {
		s.Release()
		return nil, err
	}
	if err := e.publish(s); err != nil {
		s.Release()
		return nil, err
	}
	return s, nil
}

// reserve keeps a second Load of the same name out while the first is busy.
func (e *Engine) reserve(name string, replace bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	if _, busy := e.loading[name]; busy {
		return fmt.Errorf("%w: it is being loaded", ErrExists)
	}
	if _, taken := (*e.models.Load())[name]; taken && !replace {
		return ErrExists
	}
	e.loading[name] = struct{}{}
	// Under the lock, so that it is not counted after Close has begun to wait.
	e.live.Add(1)
	return nil
}

func (e *Engine) unreserve(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.loading, name)
	e.live.Done()
}

// publish puts s under its name, in the place of the one that has it.
func (e *Engine) publish(s *Snapshot) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return ErrClosed
	}
	next := maps.Clone(*e.models.Load())
	old := next[s.name]
	if old != nil && !old.signature.Equal(s.signature) {
		e.mu.Unlock()
		return fmt.Errorf("%w from that of the model it was to replace", ErrSignature)
	}
	e.generation++
	s.description.Generation = e.generation
	if e.tap != nil {
		s.tap = e.tap.Model(s.description)
	}
	next[s.name] = s
	e.models.Store(&next)
	e.mu.Unlock()
	if old != nil {
		old.Release()
	}
	return nil
}

// Unload takes the name away; new requests for it fail at once. It returns when
// the requests under way are answered and the model is closed, or when ctx
// ends, after which the model closes by itself with its last request.
func (e *Engine) Unload(ctx context.Context, name string) error {
	done := e.changing(ctx, Change{Kind: Unloading, Model: name})
	err := e.unload(ctx, name)
	done(Description{}, err)
	return err
}

func (e *Engine) unload(ctx context.Context, name string) error {
	e.mu.Lock()
	models := *e.models.Load()
	s := models[name]
	if s == nil {
		e.mu.Unlock()
		return fmt.Errorf("unloading: %w: no model is loaded as %q", ErrNotFound, name)
	}
	next := maps.Clone(models)
	delete(next, name)
	e.models.Store(&next)
	e.mu.Unlock()
	s.Release()
	select {
	case <-s.closed:
		e.log.Info("model unloaded", "model", name)
	case <-ctx.Done():
		e.log.Warn("model unloaded while requests are under way", "model", name)
	}
	return nil
}

// Acquire is the model of that name, counted: the caller releases it. It fails
// with ErrNotFound, or ErrClosed after Close was called.
func (e *Engine) Acquire(name string) (*Snapshot, error) {
	for {
		s := (*e.models.Load())[name]
		if s == nil {
			return nil, e.missing(name)
		}
		if s.retain() {
			return s, nil
		}
		// It was replaced or unloaded between the two lines above; the map
		// has changed by now.
	}
}

func (e *Engine) missing(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	return fmt.Errorf("%w: no model is loaded as %q", ErrNotFound, name)
}

// List is the loaded models by name, sorted.
func (e *Engine) List() []Description {
	models := *e.models.Load()
	list := make([]Description, 0, len(models))
	for _, name := range slices.Sorted(maps.Keys(models)) {
		list = append(list, models[name].description)
	}
	return list
}

// Close refuses what is new, lets what is under way finish, and closes all
// models. When ctx ends first it returns an error, and the models close as soon
// as their last requests end.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	models := *e.models.Load()
	e.models.Store(&map[string]*Snapshot{})
	e.mu.Unlock()
	for _, s := range models {
		s.Release()
	}
	done := make(chan struct{})
	go func() {
		e.live.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the engine: requests are still under way: %w", ctx.Err())
	}
}

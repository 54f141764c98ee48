package main

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/picket-ml/picket/engine"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/server/oip"
)

// How long to wait before looking again whether a model that could not be loaded can
// be: the first time and at most.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

// declared makes what the configuration says should be loaded so: when the daemon
// starts and at each reload, and, for models that could not be loaded, again until they
// are. What clients do to a model in between stands until the next reload.
type declared struct {
	engine *engine.Engine
	log    *slog.Logger
	// locate is where a model lies whose path may be the name of a package.
	locate func(path string) string
	// token is held by whoever loads and unloads.
	token chan struct{}
	// failed has a token when a model could not be loaded.
	failed chan struct{}

	mu   sync.Mutex
	list []*declaredModel
}

// declaredModel is a model that should be loaded. Its name never changes, the rest
// while the token is held, under the lock.
type declaredModel struct {
	config.Model
	// generation is the engine's, of the model that was loaded for it last; 0 if none
	// was.
	generation uint64
	// state is what its folder, or its package's file, was before it was loaded last, or
	// failed to be.
	state folderState
	err   error // why it failed; nil if it did not
	// When to look whether it can be loaded, after it failed.
	next  time.Time
	pause time.Duration
}

func newDeclared(e *engine.Engine, log *slog.Logger, locate func(string) string, models []config.Model) *declared {
	d := &declared{engine: e, log: log, locate: locate, token: make(chan struct{}, 1), failed: make(chan struct{}, 1)}
	for _, m := range models {
		d.list = append(d.list, &declaredModel{Model: m})
	}
	return d
}

// start loads the models. The engine logs those that fail.
func (d *declared) start(ctx context.Context) {
	d.token <- struct{}{}
	defer func() { <-d.token }()
	for _, m := range d.models() {
		if ctx.Err() != nil {
			return
		}
		_ = d.load(ctx, m)
	}
}

// count is how many of the declared models are loaded, and how many there are.
func (d *declared) count() (loaded, all int) {
	d.eachState(func(_ config.Model, is bool, _ string) {
		all++
		if is {
			loaded++
		}
	})
	return loaded, all
}

// has tells whether a model is declared, and fails with why it could not be loaded.
func (d *declared) has(name string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.list {
		if m.Name == name {
			return true, m.err
		}
	}
	return false, nil
}

// models is the list; who holds the token may use its entries.
func (d *declared) models() []*declaredModel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

// load loads m in the place of whatever has its name. The token is held.
func (d *declared) load(ctx context.Context, m *declaredModel) error {
	// Before its files are read: what changes while they are is seen as a change.
	state := stateOf(d.locate(m.Path))
	loaded, err := d.engine.Replace(ctx, m.Name, m.Path, modelOptions(m.Run))
	d.mu.Lock()
	defer d.mu.Unlock()
	m.state, m.err = state, err
	if err == nil {
		m.generation, m.pause = loaded.Generation, 0
		return nil
	}
	m.pause = minPause
	m.next = time.Now().Add(m.pause)
	select {
	case d.failed <- struct{}{}:
	default:
	}
	return err
}

// reopen has a model opened again in its own place, because where it runs is out of use.
// If it is a declared one it stays so.
func (d *declared) reopen(ctx context.Context, name string, generation uint64) error {
	select {
	case d.token <- struct{}{}:
		defer func() { <-d.token }()
	case <-ctx.Done():
		return ctx.Err()
	}
	loaded, err := d.engine.Reopen(ctx, name)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.list {
		if m.Name == name && m.generation == generation {
			m.generation = loaded.Generation
		}
	}
	return nil
}

// apply makes models what should be loaded: those that are new, whose settings have
// changed, whose folder has, that failed, or that clients have unloaded or put others in
// the place of are loaded, beside the ones that are served until then; those that are
// declared no more are unloaded, for which requests under way have until grace is over.
// All others are left as they are. It fails only when ctx ends before its turn comes.
func (d *declared) apply(ctx context.Context, models []config.Model, grace time.Duration) ([]*controlapi.ReloadedModel, error) {
	select {
	case d.token <- struct{}{}:
		defer func() { <-d.token }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	before := map[string]*declaredModel{}
	for _, m := range d.models() {
		before[m.Name] = m
	}
	served := d.served()
	var next, load []*declaredModel
	for _, to := range models {
		m := before[to.Name]
		delete(before, to.Name)
		if m == nil {
			m = &declaredModel{}
		}
		is, loaded := served[to.Name]
		was := m.Model
		was.Capture = to.Capture // what is captured is not of the loaded model
		if !reflect.DeepEqual(was, to) || !loaded || is != m.generation || m.err != nil || m.state != stateOf(d.locate(to.Path)) {
			load = append(load, m)
		}
		d.mu.Lock()
		m.Model = to
		d.mu.Unlock()
		next = append(next, m)
	}
	d.mu.Lock()
	d.list = next
	d.mu.Unlock()

	var done []*controlapi.ReloadedModel
	for _, m := range load {
		one := &controlapi.ReloadedModel{Name: m.Name, Action: controlapi.ReloadAction_RELOAD_ACTION_LOAD}
		if _, loaded := served[m.Name]; loaded {
			one.Action = controlapi.ReloadAction_RELOAD_ACTION_REPLACE
		}
		if err := d.load(ctx, m); err != nil {
			one.Error = err.Error()
		}
		done = append(done, one)
	}
	for name, m := range before {
		if is, loaded := served[name]; !loaded || is != m.generation {
			continue // somebody else's
		}
		one := &controlapi.ReloadedModel{Name: name, Action: controlapi.ReloadAction_RELOAD_ACTION_UNLOAD}
		short, cancel := context.WithTimeout(ctx, grace)
		if err := d.engine.Unload(short, name); err != nil && !errors.Is(err, engine.ErrNotFound) {
			one.Error = err.Error()
		}
		cancel()
		done = append(done, one)
	}
	return done, nil
}

// served are the generations of the loaded models, by name.
func (d *declared) served() map[string]uint64 {
	all := map[string]uint64{}
	for _, m := range d.engine.List() {
		all[m.Name] = m.Generation
	}
	return all
}

// keepTrying loads what failed to be loaded once its folder has changed, until ctx
// ends. A folder that has not changed would fail again, and fill the log.
func (d *declared) keepTrying(ctx context.Context) {
	for {
		wait, some := d.untilNext()
		var timer <-chan time.Time
		if some {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.failed:
			continue
		case <-timer:
		}
		select {
		case <-ctx.Done():
			return
		case d.token <- struct{}{}:
		}
		d.tryAgain(ctx)
		<-d.token
	}
}

// untilNext is how long it is until a model is to be looked at, if any is.
func (d *declared) untilNext() (wait time.Duration, some bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.list {
		if left := time.Until(m.next); m.err != nil && (!some || left < wait) {
			wait, some = left, true
		}
	}
	return wait, some
}

// tryAgain looks at the models whose time has come. The token is held.
func (d *declared) tryAgain(ctx context.Context) {
	served := d.served()
	for _, m := range d.models() {
		if m.err == nil || time.Now().Before(m.next) {
			continue
		}
		if _, loaded := served[m.Name]; !loaded && m.generation != 0 {
			// The one that was to be replaced was unloaded by a client, who wants it so.
			d.mu.Lock()
			m.err = nil
			d.mu.Unlock()
			continue
		}
		// Memory comes back without any file changing; everything else fails again.
		pause, changed := m.pause, stateOf(d.locate(m.Path)) != m.state
		if changed || errors.Is(m.err, engine.ErrMemory) {
			d.log.Info("trying again to load a declared model", "model", m.Name, "path", m.Path)
			if d.load(ctx, m) == nil || changed {
				continue // a folder that is being copied is looked at often
			}
		}
		d.mu.Lock()
		m.pause = min(2*pause, maxPause)
		m.next = time.Now().Add(m.pause)
		d.mu.Unlock()
	}
}

// eachState calls do for every declared model with why it is not loaded as it should
// be; empty if it is.
func (d *declared) eachState(do func(m config.Model, loaded bool, reason string)) {
	served := d.served()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.list {
		is, loaded := served[m.Name]
		reason := ""
		switch {
		case m.err != nil:
			reason = m.err.Error()
		case !loaded && m.generation == 0:
			reason = "it is being loaded"
		case !loaded:
			reason = "it was unloaded by a client; a reload of the configuration loads it again"
		case is != m.generation && m.generation != 0:
			reason = "a client has loaded another in its place; a reload of the configuration puts it back"
		}
		do(m.Model, loaded, reason)
	}
}

// forOIP is the list as the Open Inference Protocol's repository has it.
func (d *declared) forOIP() (all []oip.Declared) {
	d.eachState(func(m config.Model, _ bool, reason string) {
		all = append(all, oip.Declared{Name: m.Name, Path: m.Path, Options: modelOptions(m.Run), Reason: reason})
	})
	return all
}

// forControl is the list as the control service has it.
func (d *declared) forControl() (all []*controlapi.DeclaredModel) {
	d.eachState(func(m config.Model, loaded bool, reason string) {
		all = append(all, &controlapi.DeclaredModel{Name: m.Name, Path: m.Path, Loaded: loaded, Reason: reason})
	})
	return all
}

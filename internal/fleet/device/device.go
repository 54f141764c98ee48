// Package device is a host's side of a fleet: it looks for what the host should serve,
// gets it, has it loaded, watches it, goes back where it is no good, and tells how it
// went. What the host has served survives everything: it is loaded again at the start
// without asking anybody, and it serves on while nobody answers.
package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

// Loader serves models. It is called by one goroutine at a time.
type Loader interface {
	// Load serves the package in the file at path as model, once it is verified and
	// warmed up, in the place of the one that has that name, which serves until then. If
	// older, a signed document says so, and it may be older than one that ran before.
	// Errors that wrap ErrTransient are worth another try.
	Load(ctx context.Context, model, path string, p fleet.Package, older bool) error
	// Unload ends the model. One that is not there is no error.
	Unload(ctx context.Context, model string) error
	// Stats is what the model has done since it was loaded.
	Stats(model string) (Stats, bool)
}

// ErrTransient is something that may go better the next time: no memory, no room, the
// end of a context.
var ErrTransient = errors.New("it may go better the next time")

// Stats is what a model has done since it was loaded.
type Stats struct {
	// Requests are those that were run, Failed those of them that failed in the model.
	Requests, Failed uint64
	P99              time.Duration // of runs
	Latest           time.Time     // the latest request; zero where that is not known
}

// Options are those of New.
type Options struct {
	Name, Fleet, Group string
	// Bucket is where the fleet's documents and packages lie, and Root the root document
	// that the operator has put on this host. Without it there are no documents, and the
	// deployments are those that the server names.
	Bucket fleet.Bucket
	Root   []byte
	// Dir is where everything is kept; it is made if it is not there.
	Dir    string
	Loader Loader
	// Client tells the fleet's server; nil for nobody.
	Client *edge.Client
	// Interval is how often the device looks, more or less.
	Interval time.Duration
	Version  string
	Log      *slog.Logger
	Now      func() time.Time // time.Now, or a test's
}

// Agent keeps a host what its fleet wants it to be. Start, Poll, Run and Close are for
// one goroutine, Status for any.
type Agent struct {
	o      Options
	reader *fleet.Reader
	state  *state
	log    *slog.Logger
	now    func() time.Time

	registered time.Time // until when; zero if it is not known
	problem    string    // what was logged last, so that it is not again
	wanted     []fleet.Wanted

	mu     sync.Mutex
	status Status
}

// Status is how an Agent does.
type Status struct {
	// Problem is why the device cannot follow the fleet; empty if it can.
	Problem string
	// Expired tells that the documents have.
	Expired bool
	Polled  time.Time // when it has looked last
	Models  map[string]string
}

const (
	packagesDir = "packages"
	stateFile   = "device.json"
	viewFile    = "view.json"

	// maxTries is how often the daemon may end while it loads a package, or watches it.
	maxTries = 2
)

// New opens what the device has kept.
func New(o Options) (*Agent, error) {
	a := &Agent{o: o, log: o.Log, now: o.Now}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if err := errors.Join(fleet.CheckName("device", o.Name), fleet.CheckName("fleet", o.Fleet), fleet.CheckName("group", o.Group)); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Join(o.Dir, packagesDir), 0o700); err != nil {
		return nil, fmt.Errorf("making the fleet's folder of this device: %w", err)
	}
	var err error
	if a.state, err = readState(filepath.Join(o.Dir, stateFile)); err != nil {
		return nil, err
	}
	if len(o.Root) > 0 {
		a.reader, err = fleet.NewReader(fleet.ReaderOptions{Bucket: o.Bucket, Root: o.Root, File: filepath.Join(o.Dir, viewFile), Now: a.now})
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Start loads what the device served before. It asks nobody.
func (a *Agent) Start(ctx context.Context) {
	for _, name := range a.state.names() {
		m := a.state.Models[name]
		if m.baking() {
			m.Starts++
			if m.Starts > maxTries {
				a.fallBack(ctx, name, m, fmt.Sprintf("the daemon ended %d times while the model was watched", m.Starts))
				continue
			}
			_ = a.save() // it has logged it
		}
		if m.Serving == nil {
			continue
		}
		if err := a.o.Loader.Load(ctx, name, a.path(m.Serving), *m.Serving, !m.Unsigned); err != nil {
			a.log.Error("loading what the fleet had this device serve", "model", name, "package", m.Serving.String(), "error", err)
			if ctx.Err() == nil && !errors.Is(err, ErrTransient) {
				_ = os.Remove(a.path(m.Serving)) // it is fetched again
			}
			m.unloaded = true
			continue
		}
		m.unloaded = false
	}
	a.publish()
}

// Run looks again and again until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	failures := 0
	// Devices that were started together need not ask together.
	wait := time.Duration(rand.Float64() * float64(min(a.o.Interval, 10*time.Second)))
	for {
		select {
		case <-ctx.Done():
			return
		case <-alarm.After(ctx, wait):
		}
		if err := a.Poll(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		wait = a.o.Interval
		if a.baking() {
			wait = min(wait, 10*time.Second)
		} else {
			wait <<= min(failures, 4)
		}
		wait = time.Duration((0.8 + 0.4*rand.Float64()) * float64(wait))
	}
}

// Close says that the end of the daemon is no fault of a model that is watched.
func (a *Agent) Close() {
	for _, m := range a.state.Models {
		if m.baking() {
			m.Starts = 0
		}
	}
	_ = a.save() // it has logged it
}

// Poll looks once, does what is to be done, and reports. The error is why the device
// could not follow, which is logged and reported too.
func (a *Agent) Poll(ctx context.Context) error {
	err := a.follow(ctx)
	a.bake(ctx)
	a.note(err)
	if reported := a.report(ctx, err); reported != nil && ctx.Err() == nil {
		a.log.Warn("telling the fleet's server", "error", reported)
	}
	a.publish()
	return err
}

// follow makes the device what the documents want it to be.
func (a *Agent) follow(ctx context.Context) error {
	var failed error
	if a.reader != nil {
		_, failed = a.reader.Refresh(ctx)
		// What cannot be read now may still be good; what has expired is not.
		if err := a.reader.Fresh(); err != nil {
			if failed == nil || errors.Is(failed, fleet.ErrExpired) {
				failed = err
			}
			return failed
		}
		group, err := a.reader.Group(ctx, a.o.Fleet, a.o.Group)
		if errors.Is(err, fleet.ErrAbsent) {
			return errors.Join(failed, fmt.Errorf("the fleet has no group %s", a.o.Group))
		}
		var progress *fleet.Progress
		if err == nil {
			progress, err = a.reader.Progress(ctx, a.o.Fleet, a.o.Group)
		}
		if err != nil {
			return err
		}
		a.wanted = group.For(a.o.Name, progress)
	} else {
		wanted, err := a.fromServer(ctx)
		if err != nil {
			return err
		}
		a.wanted = wanted
	}
	for _, w := range a.wanted {
		if err := a.converge(ctx, w); err != nil {
			failed = errors.Join(failed, fmt.Errorf("model %s: %w", w.Model, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for _, name := range a.state.names() {
		if !slices.ContainsFunc(a.wanted, func(w fleet.Wanted) bool { return w.Model == name }) {
			if err := a.drop(ctx, name); err != nil {
				failed = errors.Join(failed, err)
			}
		}
	}
	a.sweep()
	return failed
}

// converge has one model be what it should be, if it can be now.
func (a *Agent) converge(ctx context.Context, w fleet.Wanted) error {
	if w.Package == nil {
		return a.drop(ctx, w.Model)
	}
	m := a.state.model(w.Model)
	if _, there := a.o.Loader.Stats(w.Model); !there && m.Serving != nil {
		m.unloaded = true // somebody else has ended it
	}
	if m.Serving.Same(w.Package) && !m.unloaded {
		a.servedAlready(w, m)
		return nil
	}
	if w.New && m.failedUnder(w) != nil {
		return a.keepOn(ctx, w.Model, m)
	}
	if err := a.fetch(ctx, w.Package); err != nil {
		return err
	}
	if may, err := a.mayTry(w, m); err != nil {
		return err
	} else if !may {
		return a.keepOn(ctx, w.Model, m)
	}
	a.log.Info("loading what the fleet wants", "model", w.Model, "package", w.Package.String(), "rollout", w.ID, "why", w.Why)
	err := a.o.Loader.Load(ctx, w.Model, a.path(w.Package), *w.Package, !w.Unsigned)
	if ctx.Err() != nil {
		m.Trying.Count-- // the end was not the package's doing
		_ = a.save()     // it has logged it
		return ctx.Err()
	}
	m.Trying = nil
	switch {
	case errors.Is(err, ErrTransient):
		_ = a.save() // it has logged it
		return err
	case err != nil && w.New:
		a.fail(w, m, err.Error(), "")
		return a.keepOn(ctx, w.Model, m)
	case err != nil:
		// The way back is tried again and again: there is no other.
		if m.RollbackFailed != w.Package.Digest {
			m.RollbackFailed = w.Package.Digest
			m.report(result(w, edge.Fail, "going back failed", err.Error(), a.now()))
		}
		_ = a.save() // it has logged it
		return fmt.Errorf("going back to %s: %w", w.Package, err)
	}
	return a.loaded(w, m)
}

// servedAlready has what the device serves be that of another rollout or pin.
func (a *Agent) servedAlready(w fleet.Wanted, m *modelState) {
	if m.ID == w.ID && m.New == w.New {
		return
	}
	m.ID, m.New = w.ID, w.New
	if w.New && !m.baking() {
		m.report(result(w, edge.Success, "it was served already", "", a.now()))
	}
	_ = a.save() // it has logged it
}

// mayTry tells whether a package is to be loaded: not one that has ended the daemon too often, which has failed then. What is tried is
// on disk before it is.
func (a *Agent) mayTry(w fleet.Wanted, m *modelState) (bool, error) {
	if m.Trying == nil || m.Trying.ID != w.ID || m.Trying.Digest != w.Package.Digest {
		m.Trying = &trying{ID: w.ID, Digest: w.Package.Digest}
	}
	if m.Trying.Count >= maxTries && w.New {
		m.Trying = nil
		a.fail(w, m, fmt.Sprintf("the daemon ended %d times while it loaded the package", maxTries), "")
		return false, nil
	}
	m.Trying.Count++
	return true, a.save() // without it a package that ends the daemon would do so for ever
}

// loaded has the package be what the device serves, and be watched if it is a new one.
func (a *Agent) loaded(w fleet.Wanted, m *modelState) error {
	before := m.Serving
	if m.unloaded {
		before = nil
	}
	m.Serving, m.ID, m.New, m.Unsigned, m.RollbackFailed, m.unloaded = w.Package, w.ID, w.New, w.Unsigned, "", false
	m.Before, m.Bake, m.Starts = nil, nil, 0
	if w.New && w.Health.BakeSeconds > 0 {
		m.Before = before
		m.Bake = &bake{Health: w.Health, Until: a.now().Add(time.Duration(w.Health.BakeSeconds) * time.Second).UTC()}
		m.report(result(w, edge.InProgress, "it is watched", "", a.now()))
	} else if w.New {
		m.report(result(w, edge.Success, "", "", a.now()))
	}
	return a.save()
}

// keepOn has what the device served before be served, where it is not.
func (a *Agent) keepOn(ctx context.Context, name string, m *modelState) error {
	if !m.unloaded || m.Serving == nil {
		return a.save()
	}
	if err := a.fetch(ctx, m.Serving); err != nil {
		return err
	}
	if err := a.o.Loader.Load(ctx, name, a.path(m.Serving), *m.Serving, !m.Unsigned); err != nil {
		return err
	}
	m.unloaded = false
	return a.save()
}

// fail remembers that the package is no good here.
func (a *Agent) fail(w fleet.Wanted, m *modelState, reason, rollback string) {
	reason = cut(reason)
	a.log.Error("what the fleet wants is no good: the device serves what it did", "model", w.Model, "package", w.Package.String(), "rollout", w.ID, "serving", m.Serving.String(), "reason", reason)
	m.Failed = append(m.Failed, failure{w.ID, w.Package.Digest, reason})
	if extra := len(m.Failed) - maxFailures; extra > 0 {
		m.Failed = slices.Delete(m.Failed, 0, extra)
	}
	m.report(result(w, edge.Fail, reason, rollback, a.now()))
}

func (a *Agent) baking() bool {
	for _, m := range a.state.Models {
		if m.baking() {
			return true
		}
	}
	return false
}

// bake looks at the models that are watched.
func (a *Agent) bake(ctx context.Context) {
	for _, name := range a.state.names() {
		m := a.state.Models[name]
		if !m.baking() {
			continue
		}
		now := a.now()
		// A clock that was set back must not make it last for ever.
		if longest := time.Duration(m.Bake.Health.BakeSeconds) * time.Second; m.Bake.Until.Sub(now) > longest {
			m.Bake.Until = now.Add(longest).UTC()
		}
		if s, ok := a.o.Loader.Stats(name); ok {
			if why := unhealthy(s, m.Bake.Health); why != "" {
				a.fallBack(ctx, name, m, why)
				continue
			}
		}
		if now.Before(m.Bake.Until) {
			continue
		}
		a.log.Info("a new model has proved itself", "model", name, "package", m.Serving.String(), "rollout", m.ID)
		m.Bake, m.Before, m.Starts = nil, nil, 0
		m.report(result(fleet.Wanted{Model: name, ID: m.ID, Package: m.Serving}, edge.Success, "", "", now))
		_ = a.save() // it has logged it
	}
}

// unhealthy is what is wrong with a model; empty for nothing.
func unhealthy(s Stats, h fleet.Health) string {
	if s.Requests < uint64(h.MinRequests) || s.Requests == 0 {
		return ""
	}
	if rate := float64(s.Failed) / float64(s.Requests); rate > h.MaxErrorRate {
		return fmt.Sprintf("%d of %d requests failed, more than a fraction of %v", s.Failed, s.Requests, h.MaxErrorRate)
	}
	if limit := time.Duration(h.MaxP99Micros) * time.Microsecond; limit > 0 && s.P99 > limit {
		return fmt.Sprintf("the 99th percentile of its runs is %v, above %v", s.P99, limit)
	}
	return ""
}

// fallBack takes back a model that is watched.
func (a *Agent) fallBack(ctx context.Context, name string, m *modelState, why string) {
	bad, before := m.Serving, m.Before
	w := fleet.Wanted{Model: name, ID: m.ID, Package: bad, New: true}
	m.Bake, m.Before, m.Starts = nil, nil, 0
	var err error
	if before == nil {
		err = a.o.Loader.Unload(ctx, name)
	} else {
		err = a.o.Loader.Load(ctx, name, a.path(before), *before, !m.Unsigned)
	}
	rollback := ""
	switch {
	case err != nil && before != nil:
		rollback = cut(err.Error())
		a.log.Error("going back failed: it is tried again", "model", name, "package", before.String(), "error", err)
		m.Serving, m.unloaded = before, true
	default:
		m.Serving, m.unloaded = before, false
	}
	m.New = false
	a.fail(w, m, why, rollback)
	_ = a.save() // it has logged it
}

// drop ends a model that the fleet wants no more.
func (a *Agent) drop(ctx context.Context, name string) error {
	m := a.state.Models[name]
	if m == nil {
		return nil
	}
	if m.Serving != nil {
		if err := a.o.Loader.Unload(ctx, name); err != nil {
			return fmt.Errorf("unloading %s: %w", name, err)
		}
		a.log.Info("unloaded what the fleet wants no more", "model", name, "package", m.Serving.String())
	}
	if m.Serving == nil && len(m.Failed) > 0 {
		return nil // that it failed here is remembered
	}
	m.Serving, m.Before, m.Bake, m.Trying = nil, nil, nil, nil
	if len(m.Failed) == 0 && len(m.Reports) == 0 {
		delete(a.state.Models, name)
	}
	return a.save()
}

// note logs why the device cannot follow, once.
func (a *Agent) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == a.problem || errors.Is(err, context.Canceled) {
		return
	}
	a.problem = text
	if err == nil {
		a.log.Info("the device follows its fleet again")
		return
	}
	a.log.Error("the device cannot follow its fleet and serves what it did", "error", err)
}

// publish makes the status what is so.
func (a *Agent) publish() {
	s := Status{Problem: a.problem, Polled: a.now(), Models: map[string]string{}}
	if a.reader != nil {
		s.Expired = errors.Is(a.reader.Fresh(), fleet.ErrExpired)
	}
	for name, m := range a.state.Models {
		if m.Serving != nil && !m.unloaded {
			s.Models[name] = m.Serving.String()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = s
}

// Status is how the agent does.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *Agent) save() error {
	err := a.state.write(filepath.Join(a.o.Dir, stateFile))
	if err != nil {
		a.log.Error("keeping what the device serves", "error", err)
	}
	return err
}

// cut bounds a sentence for the wire.
func cut(s string) string {
	const most = 1000
	if len(s) > most {
		s = s[:most]
	}
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}

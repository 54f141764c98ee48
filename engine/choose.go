package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// choice is how one load comes to its backend. It is used by one goroutine.
type choice struct {
	engine   *Engine
	name     string
	artifact *Artifact
	options  ModelOptions
	cores    cores
	// candidates are all backends, in the order of the engine's list; the indices
	// below are into it.
	candidates []Candidate
	better     []int // to be opened and timed, best match first
	last       []int // last resorts, best match first
	// missing says of backends that match the artifact and do not work on this host why; empty where there are none.
	missing string
	// unsupported is what the last backend said that does not support the artifact.
	unsupported error
	// unsettled tells that something failed that may not fail the next time, as for
	// lack of memory: such a decision is not remembered.
	unsettled bool
}

// matchesBest is the Reason of a backend that was chosen without timing it.
const matchesBest = "chosen: it matches the artifact best"

// openBest opens the artifact with the backend that is to run it and starts the
// model.
func (e *Engine) openBest(ctx context.Context, name string, a *Artifact, o ModelOptions, cores cores) (*Snapshot, error) {
	c := e.rank(name, a, o)
	c.cores = cores
	if len(c.better) > 1 {
		key := c.key(ctx)
		if s, err := c.startRemembered(ctx, key); s != nil || err != nil {
			return s, err
		}
		if s, err := c.startFastest(ctx, key); s != nil || err != nil {
			return s, err
		}
		return c.startFirst(ctx, c.last)
	}
	return c.startFirst(ctx, slices.Concat(c.better, c.last))
}

// rank asks every backend how well it suits the artifact.
func (e *Engine) rank(name string, a *Artifact, o ModelOptions) *choice {
	c := &choice{engine: e, name: name, artifact: a, options: o, candidates: make([]Candidate, len(e.backends))}
	matches := make([]int, len(e.backends))
	for i, b := range e.backends {
		candidate := &c.candidates[i]
		candidate.Backend = b.Name()
		var err error
		matches[i], err = c.match(i)
		switch {
		case o.Backend != "" && b.Name() != o.Backend:
			candidate.Reason = "not asked: backend " + o.Backend + " was asked for"
		case err != nil:
			candidate.Reason = err.Error() + " while looking at the artifact"
		case matches[i] == 0:
			candidate.Reason = "the artifact is not of its format"
		case b.unusable != nil:
			candidate.Reason = b.unusable.Error()
			c.missing += fmt.Sprintf("; backend %s, which might run it, does not work here: %v", b.Name(), b.unusable)
		case matches[i] <= LastResort:
			candidate.Reason = "not tried: it is a last resort, for what no other backend can open"
			c.last = append(c.last, i)
		default:
			c.better = append(c.better, i)
		}
	}
	best := func(i, j int) int { return cmp.Compare(matches[j], matches[i]) }
	slices.SortStableFunc(c.better, best)
	slices.SortStableFunc(c.last, best)
	return c
}

// match asks backend i.
func (c *choice) match(i int) (fit int, err error) {
	defer contain(c.engine.log, c.name, &err)
	return c.engine.backends[i].Match(c.artifact), nil
}

// open opens the artifact with backend i. What a backend had opened before a
// panic stays open.
func (c *choice) open(ctx context.Context, i int) (m Model, err error) {
	defer contain(c.engine.log, c.name, &err)
	m, err = c.engine.backends[i].Open(ctx, c.artifact, OpenOptions{
		Host: c.engine.host, Threads: c.options.Threads, Pin: c.options.Pin, Explain: c.options.Explain, Bind: c.cores.binder(c.engine.log),
		Provider: c.options.Provider, GPUs: c.options.GPUs,
	})
	if err == nil && c.options.Explain && m.Signature().Contributions == nil {
		closing(c.engine.log, "model", c.name, c.candidates[i].Backend, m)
		return nil, fmt.Errorf("%w: it does not tell what features contribute, as explain: true asks for", ErrUnsupported)
	}
	if err != nil && ctx.Err() != nil {
		err = contextError(ctx.Err()) // whatever else it says, nobody waits for it
	}
	return m, err
}

// startFirst starts the first model that opens. Only ErrUnsupported sends it to
// the next: an artifact that is damaged for one backend is not tried on others,
// whose libraries may be less careful.
func (c *choice) startFirst(ctx context.Context, order []int) (*Snapshot, error) {
	for n, i := range order {
		if err := ctx.Err(); err != nil {
			return nil, contextError(err)
		}
		model, err := c.open(ctx, i)
		if errors.Is(err, ErrUnsupported) {
			c.candidates[i].Reason, c.unsupported = err.Error(), err
			continue
		}
		if err != nil {
			return nil, c.opening(i, err)
		}
		for _, j := range order[n+1:] {
			if slices.Contains(c.better, j) == slices.Contains(c.better, i) {
				c.candidates[j].Reason = "not tried: " + c.candidates[i].Backend + " matches the artifact better"
			}
		}
		reason := matchesBest
		if c.options.Backend != "" {
			reason = "chosen: it was asked for"
		}
		return c.start(ctx, i, model, reason)
	}
	return nil, c.noneCan()
}

// startRemembered starts the backend that was the fastest when the others were
// timed for the same key; nil without an error where there is no such decision
// or it does not hold any more.
func (c *choice) startRemembered(ctx context.Context, key string) (*Snapshot, error) {
	d := c.recall(key)
	if d == nil {
		return nil, nil
	}
	before := slices.Clone(c.candidates)
	chosen := c.adopt(d)
	model, err := c.open(ctx, chosen)
	if err == nil {
		// The decision is about the bytes that the key is of.
		if err = c.artifact.unchanged(); err != nil {
			closing(c.engine.log, "model", c.name, c.candidates[chosen].Backend, model)
		}
	}
	var s *Snapshot
	if err == nil {
		s, err = c.start(ctx, chosen, model, c.candidates[chosen].Reason)
	}
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx.Err())
	}
	c.engine.log.Warn("timing backends again: the remembered one cannot be used",
		"model", c.name, "backend", c.candidates[chosen].Backend, "error", err)
	c.candidates = before
	return nil, nil
}

// startFastest opens the candidates, times them and starts the fastest; nil
// without an error where none supports the artifact.
func (c *choice) startFastest(ctx context.Context, key string) (*Snapshot, error) {
	fastest, err := c.findFastest(ctx)
	if err != nil || fastest == nil {
		return nil, err
	}
	c.remember(key, fastest.index)
	return c.start(ctx, fastest.index, fastest.model, c.candidates[fastest.index].Reason)
}

// findFastest opens the candidates and times them where there are several. All
// are closed again but for the model of the one it returns, which is the caller's;
// nil without an error where none supports the artifact. One load at a time does
// this, so that no more models are open than one artifact has candidates.
func (c *choice) findFastest(ctx context.Context) (*trial, error) {
	select {
	case c.engine.timing <- struct{}{}:
		defer func() { <-c.engine.timing }()
	case <-ctx.Done():
		return nil, contextError(ctx.Err())
	}
	trials, err := c.openTrials(ctx)
	if err != nil || len(trials) == 0 {
		return nil, err
	}
	if len(trials) == 1 {
		c.candidates[trials[0].index].Reason, c.unsettled = matchesBest, true
		return trials[0], nil
	}
	return c.calibrate(ctx, trials)
}

// openTrials opens what can be timed, best match first, which the caller then
// owns. The first one that supports the artifact must open. After it, one that
// finds the artifact damaged, or anything else wrong but that it does not support
// it, is the last: those that come behind it may be less careful.
func (c *choice) openTrials(ctx context.Context) (trials []*trial, err error) {
	defer func() {
		if err != nil {
			closeTrials(trials)
			trials = nil
		}
	}()
	for n, i := range c.better {
		if err := ctx.Err(); err != nil {
			return trials, contextError(err)
		}
		model, err := c.open(ctx, i)
		if err == nil {
			trials = append(trials, &trial{choice: c, index: i, model: model})
			continue
		}
		if errors.Is(err, ErrUnsupported) {
			c.candidates[i].Reason, c.unsupported = err.Error(), err
			continue
		}
		if len(trials) == 0 || ctx.Err() != nil {
			return trials, c.opening(i, err)
		}
		c.candidates[i].Reason, c.unsettled = err.Error(), true
		c.engine.log.Warn("a backend that matches the artifact cannot open it; another one runs it",
			"model", c.name, "url", c.artifact.URL, "backend", c.candidates[i].Backend, "error", err)
		for _, j := range c.better[n+1:] {
			c.candidates[j].Reason = "not tried: " + c.candidates[i].Backend + " matches the artifact better and could not open it"
		}
		break
	}
	return trials, nil
}

// start starts the model of backend i, which it takes over.
func (c *choice) start(ctx context.Context, i int, model Model, reason string) (*Snapshot, error) {
	c.candidates[i].Chosen, c.candidates[i].Reason = true, reason
	options, found, err := c.tune(ctx, i, model)
	if err != nil {
		closing(c.engine.log, "model", c.name, c.candidates[i].Backend, model)
		return nil, c.starting(i, err)
	}
	if found != "" {
		c.candidates[i].Reason += "; " + found
	}
	d := Description{Name: c.name, URL: c.artifact.URL, Package: c.artifact.Package, Backend: c.candidates[i].Backend, Candidates: c.candidates}
	s, err := startSnapshot(model, d, options, c.cores, c.engine.host, c.engine.log)
	if err != nil {
		return nil, c.starting(i, err)
	}
	return s, nil
}

func (c *choice) opening(i int, err error) error {
	return fmt.Errorf("opening it with backend %s: %w", c.candidates[i].Backend, err)
}

func (c *choice) starting(i int, err error) error {
	return fmt.Errorf("starting it with backend %s: %w", c.candidates[i].Backend, err)
}

// noneCan says in one sentence why no backend opened the artifact.
func (c *choice) noneCan() error {
	if c.unsupported != nil && c.missing != "" {
		return fmt.Errorf("%w%s", c.unsupported, c.missing)
	}
	if c.unsupported != nil {
		return c.unsupported
	}
	empty := ""
	if len(c.artifact.Files)+len(c.artifact.LeftOut) == 0 {
		empty = "the folder is empty, and "
	}
	reasons := make([]string, len(c.candidates))
	for i, candidate := range c.candidates {
		reasons[i] = candidate.Backend + " (" + candidate.Reason + ")"
	}
	return fmt.Errorf("%w: %sno backend can run it: %s%s", ErrArtifact, empty, strings.Join(reasons, "; "), c.artifact.LeftOutText())
}

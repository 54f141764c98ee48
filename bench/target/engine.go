package target

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/store"
)

// inProcess is Picket's engine in this process.
type inProcess struct {
	host    *hw.Host
	served  []Served
	engine  *engine.Engine
	after   func() error // gives back what the engine was made of, once it is closed
	version string
	loaded  map[string]engine.Description
	failed  map[string]error
}

// StartEngine starts an engine of every backend, for models that nobody has signed, which is closed with the target. A model that it cannot load is left out.
func StartEngine(version string, host *hw.Host) Starter {
	return func(ctx context.Context, _ string, served []Served, wanted func(string) bool) (*Group, error) {
		if !wanted("engine") {
			return &Group{Close: func() error { return nil }}, nil
		}
		t := &inProcess{host: host, served: served, version: version}
		if err := t.start(ctx); err != nil {
			return nil, err
		}
		g := &Group{Targets: []Target{t}, Close: func() error { return t.close(ctx) }}
		for _, s := range served {
			if err := t.failed[s.Name()]; err != nil {
				g.LeftOut = append(g.LeftOut, report.LeftOut{Model: s.Name(), Engine: "engine", Why: err.Error()})
			}
		}
		return g, nil
	}
}

// start makes an engine and has it load the models, or leaves none behind.
func (t *inProcess) start(ctx context.Context) error {
	e, after, err := t.newEngine()
	if err != nil {
		return err
	}
	t.engine, t.after, t.loaded, t.failed = e, after, map[string]engine.Description{}, map[string]error{}
	for _, s := range t.served {
		d, err := e.Load(ctx, s.Name(), s.Model.Dir, engine.ModelOptions{Backend: s.Backend, Threads: s.Threads, MaxBatchRows: s.BatchRows})
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), t.close(ctx))
		case err != nil:
			t.failed[s.Name()] = err
		default:
			t.loaded[s.Name()] = d
		}
	}
	return nil
}

// newEngine makes an engine, and the function that gives back what it is made of.
func (t *inProcess) newEngine() (*engine.Engine, func() error, error) {
	source, err := store.New(store.Options{Unsigned: true})
	if err != nil {
		return nil, nil, err
	}
	list := backends.All(backends.Options{})
	after := func() error { return errors.Join(backends.Close(list), source.Close()) }
	e, err := engine.New(engine.Options{Host: t.host, Backends: list, Source: source, Version: t.version})
	if err != nil {
		return nil, nil, errors.Join(err, after())
	}
	return e, after, nil
}

// close ends the engine, once.
func (t *inProcess) close(ctx context.Context) error {
	if t.engine == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err := t.engine.Close(ctx)
	if err == nil { // else models may still run
		err = t.after()
	}
	t.engine = nil
	return err
}

// Renew has another engine load the models, into other memory.
func (t *inProcess) Renew(ctx context.Context) error {
	if err := t.close(ctx); err != nil {
		return err
	}
	return t.start(ctx)
}

func (t *inProcess) Info() report.TargetInfo {
	return report.TargetInfo{Name: "engine", Kind: report.KindInProcess, Ours: true, Transport: "call", Version: t.version, Notes: "as a Go program calls it, the copy of the row into the request's memory included"}
}

func (t *inProcess) Process() *process.Server { return nil }

func (t *inProcess) Variant(_ context.Context, s Served) (string, error) {
	d, ok := t.loaded[s.Name()]
	if !ok {
		return "", t.failed[s.Name()]
	}
	return variant(d.Backend, d.Variant), nil
}

// variant is a backend with which of its builds it is.
func variant(backend, build string) string {
	if build == "" {
		return backend
	}
	return fmt.Sprintf("%s (%s)", backend, build)
}

func (t *inProcess) Connect(s Served, rows int) (protocols.Client, error) {
	if err := t.failed[s.Name()]; err != nil {
		return nil, err
	}
	ask := protocols.Ask{Model: s.Name(), Rows: s.Model.Rows, Count: rows}
	return &engineClient{Ask: ask, engine: t.engine, values: make([]float32, rows)}, nil
}

// engineClient does for each request what a server does.
type engineClient struct {
	protocols.Ask
	engine *engine.Engine
	first  int
	raw    []byte
	values []float32
}

func (c *engineClient) Prepare(random *rand.Rand) { c.first, c.raw = c.Choose(random) }

func (c *engineClient) Do(ctx context.Context) error {
	m, err := c.engine.Acquire(c.Model)
	if err != nil {
		return err
	}
	defer m.Release()
	r, err := m.NewRequest(c.Count)
	if err != nil {
		return err
	}
	defer r.Release()
	copy(r.Inputs[0].Bytes(), c.raw)
	if err := r.Predict(ctx); err != nil {
		return err
	}
	c.values = protocols.Floats(c.values[:0], r.Outputs[0].Bytes())
	return nil
}

func (c *engineClient) Check() (int, error) {
	return 4 * len(c.values), c.Rows.Check(c.first, c.Count, c.values)
}

func (c *engineClient) Close() error { return nil }

package target

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/engine"
)

// inProcess is Picket's engine in this process.
type inProcess struct {
	engine  *engine.Engine
	version string
	loaded  map[string]engine.Description
	failed  map[string]error
}

// StartEngine starts the engine that make makes, which is closed with the target. A model that it cannot load is left out.
func StartEngine(version string, make func() (*engine.Engine, error)) Starter {
	return func(ctx context.Context, _ string, served []Served, wanted func(string) bool) (*Group, error) {
		if !wanted("engine") {
			return &Group{Close: func() error { return nil }}, nil
		}
		e, err := make()
		if err != nil {
			return nil, err
		}
		t := &inProcess{engine: e, version: version, loaded: map[string]engine.Description{}, failed: map[string]error{}}
		g := &Group{Targets: []Target{t}, Close: func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			return e.Close(ctx)
		}}
		for _, s := range served {
			d, err := e.Load(ctx, s.Name(), s.Model.Dir, engine.ModelOptions{Backend: s.Backend, Threads: s.Threads, MaxBatchRows: s.BatchRows})
			switch {
			case ctx.Err() != nil:
				return nil, errors.Join(ctx.Err(), g.Close())
			case err != nil:
				t.failed[s.Name()] = err
				g.LeftOut = append(g.LeftOut, report.LeftOut{Model: s.Name(), Engine: "engine", Why: err.Error()})
			default:
				t.loaded[s.Name()] = d
			}
		}
		return g, nil
	}
}

func (t *inProcess) Info() report.TargetInfo {
	return report.TargetInfo{Name: "engine", Kind: "in process", Ours: true, Transport: "call", Version: t.version, Notes: "as a Go program calls it, the copy of the row into the request's memory included"}
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

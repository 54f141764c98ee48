package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/tensor"
)

// panicky is a backend that panics in one place while a model is loaded.
type panicky struct {
	*enginetest.Backend
	in string
}

func (p panicky) Name() string { return "panics-in-" + p.in }

func (p panicky) at(place string) {
	if place == p.in {
		panic("index out of range")
	}
}

func (p panicky) Match(a *engine.Artifact) int { p.at("match"); return p.Backend.Match(a) }

func (p panicky) Open(ctx context.Context, a *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	p.at("open")
	m, err := p.Backend.Open(ctx, a, o)
	return panickyModel{m, p}, err
}

type panickyModel struct {
	engine.Model
	panicky
}

func (m panickyModel) Signature() engine.Signature {
	m.at("signature")
	s := m.Model.Signature()
	if m.in == "explain" {
		s.Contributions = &engine.TensorSpec{Name: "contributions", DType: tensor.FP32, Dims: []int64{engine.Variable, enginetest.Columns + 1}}
	}
	return s
}

func (m panickyModel) Properties() engine.Properties {
	m.at("properties")
	return m.Model.Properties()
}

func (m panickyModel) Close() error {
	err := m.Model.Close()
	m.at("close-model")
	return err
}

func (m panickyModel) NewInstance() (engine.Instance, error) {
	m.at("instance")
	i, err := m.Model.NewInstance()
	return &panickyInstance{Instance: i, panicky: m.panicky}, err
}

type panickyInstance struct {
	engine.Instance
	panicky
	runs int
}

func (i *panickyInstance) Run(in, out []tensor.Tensor, rows int) error {
	if i.runs++; i.runs == 2 {
		i.at("timing")
	}
	return i.Instance.Run(in, out, rows)
}

func (i *panickyInstance) Explain([]tensor.Tensor, tensor.Tensor, int) error {
	i.at("explain")
	return nil
}

func (i *panickyInstance) Close() error {
	err := i.Instance.Close()
	i.at("close-instance")
	return err
}

// A backend that stumbles over an artifact does not take the other models along,
// wherever it stumbles.
func TestBackendPanicWhileLoading(t *testing.T) {
	for _, place := range []string{"match", "open", "signature", "properties", "instance", "timing"} {
		t.Run(place, func(t *testing.T) {
			b := enginetest.New(enginetest.Script{})
			e := newEngine(t, engine.Options{Backends: []engine.Backend{panicky{b, place}}}, b)
			_, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{Backend: "panics-in-" + place})
			if err == nil || !strings.Contains(err.Error(), "panicked") || strings.Contains(err.Error(), "index") {
				t.Errorf("loading: %v", err)
			}
			load(t, e, "m", engine.ModelOptions{Backend: "fake"})
			predict(t, e, "m", 2, 1, 0)
		})
	}
}

// What is chosen among several ends well however the others stumble, and so does what stumbles only at its end.
func TestBackendPanicWhileClosing(t *testing.T) {
	for _, place := range []string{"signature", "properties", "close-instance", "close-model"} {
		t.Run(place, func(t *testing.T) {
			b := enginetest.New(enginetest.Script{Match: 90})
			other := enginetest.New(enginetest.Script{Name: "other"})
			var log bytes.Buffer
			e := newEngine(t, engine.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Backends: []engine.Backend{panicky{b, place}}}, other)
			load(t, e, "m", engine.ModelOptions{})
			if err := e.Unload(t.Context(), "m"); err != nil {
				t.Error(err)
			}
			if !strings.Contains(log.String(), "the backend panicked") {
				t.Errorf("the log does not say it: %s", &log)
			}
			if models, instances := b.Live(); models != 0 || instances != 0 {
				t.Errorf("%d models and %d instances are open", models, instances)
			}
		})
	}
}

// A request whose explanation panics has failed in the model, and took no longer than it did.
func TestPanicWhileExplaining(t *testing.T) {
	b := enginetest.New(enginetest.Script{})
	e := newEngine(t, engine.Options{Backends: []engine.Backend{panicky{b, "explain"}}}, b)
	load(t, e, "m", engine.ModelOptions{Backend: "panics-in-explain", Explain: true})
	s, err := e.Acquire("m")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	r, err := s.NewRequest(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	r.Explain = true
	if err := r.Predict(t.Context()); !errors.Is(err, engine.ErrRun) {
		t.Errorf("predicting: %v", err)
	}
	if st := s.Stats(); st.Failed["run"] != 1 || st.Run.Sum <= 0 {
		t.Errorf("counted as %v, which took %v", st.Failed, st.Run.Sum)
	}
}

package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// slowToOpen opens a model only when its caller has given up.
type slowToOpen struct{ *enginetest.Backend }

func (s slowToOpen) Name() string { return "slow" }

func (s slowToOpen) Open(ctx context.Context, a *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	<-ctx.Done()
	return s.Backend.Open(ctx, a, o)
}

// Whoever was told that loading failed must not find the model loaded.
func TestLoadOfACallerWhoGaveUp(t *testing.T) {
	b := enginetest.New(enginetest.Script{})
	e := newEngine(t, engine.Options{Backends: []engine.Backend{slowToOpen{b}}}, b)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	leaving, leave := context.WithCancel(t.Context())
	go leave() // before or while the model is opened
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{canceled, engine.ErrCanceled}, {late, engine.ErrDeadline}, {leaving, engine.ErrCanceled}} {
		_, err := e.Load(c.ctx, "m", "somewhere", engine.ModelOptions{Backend: "slow"})
		if !errors.Is(err, c.want) || strings.Contains(err.Error(), "predicting") {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
	if list := e.List(); len(list) != 0 {
		t.Errorf("%d models are loaded", len(list))
	}
}

package engine_test

import (
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

func TestSetDefaults(t *testing.T) {
	e := newEngine(t, engine.Options{Defaults: engine.ModelOptions{MaxQueue: 7}}, enginetest.New(enginetest.Script{}))
	load(t, e, "before", engine.ModelOptions{})
	if err := e.SetDefaults(engine.ModelOptions{MaxQueue: 9, Timeout: time.Second}); err != nil {
		t.Fatal(err)
	}
	load(t, e, "after", engine.ModelOptions{})
	for _, wrong := range []engine.ModelOptions{{Backend: "abacus"}, {MaxQueue: -1}} {
		if err := e.SetDefaults(wrong); err == nil {
			t.Errorf("the defaults %+v were taken", wrong)
		}
	}
	load(t, e, "last", engine.ModelOptions{})
	for name, want := range map[string]engine.ModelOptions{
		"before": {MaxQueue: 7}, "after": {MaxQueue: 9, Timeout: time.Second}, "last": {MaxQueue: 9, Timeout: time.Second},
	} {
		got := describe(t, e, name).Options
		if got.MaxQueue != want.MaxQueue || got.Timeout != want.Timeout || got.MaxBatchRows == 0 || got.Threads == 0 {
			t.Errorf("model %s is run with %+v", name, got)
		}
	}
}

// Whoever has loaded a model can tell whether it is still the one that has the name.
func TestGeneration(t *testing.T) {
	e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{}))
	seen := map[uint64]bool{}
	for range 3 {
		d, err := e.Replace(t.Context(), "m", "somewhere", engine.ModelOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Generation == 0 || seen[d.Generation] || d.Generation != describe(t, e, "m").Generation {
			t.Errorf("the model's generation is %d after %v, and %d in the list", d.Generation, seen, describe(t, e, "m").Generation)
		}
		seen[d.Generation] = true
	}
	if err := e.Unload(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	load(t, e, "m", engine.ModelOptions{})
	if g := describe(t, e, "m").Generation; seen[g] {
		t.Errorf("generation %d came twice", g)
	}
}

func describe(t *testing.T, e *engine.Engine, name string) engine.Description {
	t.Helper()
	for _, d := range e.List() {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no model %s is loaded", name)
	return engine.Description{}
}

package engine_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// A caller runs a model that runs anywhere itself, unless the run takes longer than a moment or than the deadline allows: then it can give up.
func TestAnywhere(t *testing.T) {
	var takes atomic.Int64
	b := enginetest.New(enginetest.Script{Properties: engine.Properties{Anywhere: true}, OnRun: func(int) error { time.Sleep(time.Duration(takes.Load())); return nil }})
	e := newEngine(t, engine.Options{}, b)
	load(t, e, "m", engine.ModelOptions{})
	if d := e.List()[0]; d.Inline || d.Options.Instances != 1 {
		t.Errorf("the model is described as %+v", d)
	}
	inlineRuns := func(want uint64, when string) {
		t.Helper()
		if s := stats(t, e, "m"); s.InlineRuns != want {
			t.Errorf("%d runs were made by their callers %s, want %d", s.InlineRuns, when, want)
		}
	}
	predict(t, e, "m", 1, 1, 0)
	inlineRuns(1, "while they are short")

	reload := func(to time.Duration) {
		takes.Store(int64(to))
		if err := e.Unload(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		load(t, e, "m", engine.ModelOptions{})
		predict(t, e, "m", 1, 1, 0) // from which the engine learns what a run takes, at least
		inlineRuns(1, "before it is known how long they take")
	}
	reload(10 * time.Millisecond)
	r := newRequest(t, e, "m", 1, 1)
	r.Deadline = time.Now().Add(5 * time.Millisecond)
	if err := r.Predict(t.Context()); !errors.Is(err, engine.ErrDeadline) {
		t.Errorf("a run that takes longer than its deadline allows: %v", err)
	}
	r.Release()
	inlineRuns(1, "whose deadlines pass meanwhile")

	reload(60 * time.Millisecond)
	predict(t, e, "m", 1, 1, 0)
	inlineRuns(1, "while they take longer than a moment")

	if v := b.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

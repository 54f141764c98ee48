package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/tensor"
)

// TestHammerReplace replaces a model hundreds of times while callers predict,
// cancel and expire. No request may fail but those that gave up themselves, and
// every answer must come from exactly one version.
func TestHammerReplace(t *testing.T) {
	for name, c := range map[string]struct {
		properties engine.Properties
		mixed      bool // each version is of another kind than the one before
		delay      time.Duration
	}{
		"inline":          {properties: inline},
		"queued":          {},
		"queued in parts": {properties: engine.Properties{MaxRows: 3}},
		"with a delay":    {delay: 50 * time.Microsecond},
		"of every kind":   {mixed: true},
	} {
		t.Run(name, func(t *testing.T) {
			const versions, replacements, callers = 4, 200, 6
			var backends []*enginetest.Backend
			for v := range versions {
				properties := c.properties
				if c.mixed {
					properties = engine.Properties{Inline: v%2 == 0, MaxRows: v / 2 * 3}
				}
				backends = append(backends, enginetest.New(enginetest.Script{
					Name: string(rune('a' + v)), Bias: float32(v+1) * 1000, Properties: properties}))
			}
			e := newEngine(t, engine.Options{}, backends...)
			o := engine.ModelOptions{MaxBatchRows: 8, BatchDelay: c.delay, Instances: 2, Backend: "a"}
			load(t, e, "m", o)
			var stop atomic.Bool
			var answered, gaveUp atomic.Int64
			var wg sync.WaitGroup
			for caller := range callers {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(1, uint64(caller)))
					for !stop.Load() {
						hammerOnce(t, e, random, &answered, &gaveUp)
					}
				})
			}
			for i := range replacements {
				o.Backend = string(rune('a' + i%versions))
				if _, err := e.Replace(t.Context(), "m", "somewhere", o); err != nil {
					t.Error(err)
				}
			}
			eventually(t, "some callers were answered and some gave up", func() bool { return answered.Load() > 0 && gaveUp.Load() > 0 })
			stop.Store(true)
			wg.Wait()
		})
	}
}

func hammerOnce(t *testing.T, e *engine.Engine, random *rand.Rand, answered, gaveUp *atomic.Int64) {
	rows, first := 1+random.IntN(10), float32(random.IntN(100))
	m, err := e.Acquire("m")
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Release()
	r, err := m.NewRequest(rows)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Release()
	fillRows(t, r, first)
	r.Priority = engine.Priority(random.IntN(3))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	impatient := random.IntN(4) == 0
	if impatient {
		if random.IntN(2) == 0 {
			cancelLater := time.AfterFunc(time.Duration(random.IntN(50))*time.Microsecond, cancel)
			defer cancelLater.Stop()
		} else {
			r.Deadline = time.Now().Add(time.Duration(random.IntN(50)) * time.Microsecond)
		}
	}
	err = r.Predict(ctx)
	if impatient && (errors.Is(err, engine.ErrCanceled) || errors.Is(err, engine.ErrDeadline) || errors.Is(err, engine.ErrBusy)) {
		gaveUp.Add(1)
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	answered.Add(1)
	y, err := tensor.View[float32](r.Outputs[0])
	if err != nil {
		t.Error(err)
		return
	}
	bias := y[0] - first
	if v := bias / 1000; v != 1 && v != 2 && v != 3 && v != 4 {
		t.Errorf("an answer of %v is from no version", y[0])
		return
	}
	checkScores(t, r, first, bias)
}

// TestHammerLoadUnload loads and unloads under the same name from many
// goroutines while others predict: each is told the truth, nothing is left.
func TestHammerLoadUnload(t *testing.T) {
	b := enginetest.New(enginetest.Script{Properties: inline})
	e := newEngine(t, engine.Options{}, b)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if _, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{}); err != nil && !errors.Is(err, engine.ErrExists) {
					t.Error(err)
				}
				if m, err := e.Acquire("m"); err == nil {
					r, err := m.NewRequest(1)
					if err != nil {
						t.Error(err)
					} else {
						fillRows(t, r, 3)
						if err := r.Predict(t.Context()); err != nil {
							t.Error(err)
						} else {
							checkScores(t, r, 3, 0)
						}
						r.Release()
					}
					m.Release()
				} else if !errors.Is(err, engine.ErrNotFound) {
					t.Error(err)
				}
				if err := e.Unload(t.Context(), "m"); err != nil && !errors.Is(err, engine.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

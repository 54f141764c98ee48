package engine_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// An overload of five times what the model can do, in the time of testing/synctest,
// in which nothing but the model takes any: what is answered on time is as much as
// the model can do, and what was let in is answered on time.
func TestOverload(t *testing.T) {
	const (
		rows     = 8 // of a run
		times    = 5
		deadline = 500 * time.Millisecond
	)
	lasting := 4 * time.Second
	if raceEnabled {
		lasting = time.Second
	}
	steady := func(run, row time.Duration) func(*rand.Rand, int) time.Duration {
		return func(_ *rand.Rand, rows int) time.Duration { return run + time.Duration(rows)*row }
	}
	for _, c := range []struct {
		name      string
		instances int
		cost      func(random *rand.Rand, rows int) time.Duration
		bursts    bool
	}{
		{"fixed cost", 1, steady(10*time.Millisecond, 0), false},
		{"fixed cost, bursts", 1, steady(10*time.Millisecond, 0), true},
		{"cost by rows", 1, steady(0, 1250*time.Microsecond), false},
		{"cost by rows, bursts", 1, steady(0, 1250*time.Microsecond), true},
		{"three instances", 3, steady(30*time.Millisecond, 0), false},
		{"three instances, bursts", 3, steady(30*time.Millisecond, 0), true},
		{"long runs", 1, steady(150*time.Millisecond, 0), false},
		{"runs that differ", 1, func(random *rand.Rand, _ int) time.Duration {
			return 5*time.Millisecond + time.Duration(random.Int64N(int64(10*time.Millisecond)))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Cleanup(engine.StartClock())
				random, costs := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
				var mu sync.Mutex
				var busy time.Duration
				e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{OnRun: func(rows int) error {
					mu.Lock()
					d := c.cost(costs, rows)
					busy += d
					mu.Unlock()
					time.Sleep(d)
					return nil
				}}))
				load(t, e, "m", engine.ModelOptions{Instances: c.instances, MaxBatchRows: rows})
				var mean time.Duration
				for range 1000 {
					mean += c.cost(rand.New(rand.NewPCG(random.Uint64(), 0)), rows) / 1000
				}
				capacity := float64(rows*c.instances) / mean.Seconds()

				var onTime, late, refused, failed int
				var wg sync.WaitGroup
				ask := func() {
					wg.Go(func() {
						began := time.Now()
						r := newRequest(t, e, "m", 1, 1)
						defer r.Release()
						r.Deadline = began.Add(deadline)
						err := r.Predict(t.Context())
						took := time.Since(began)
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err == nil && took <= deadline:
							onTime++
						case errors.Is(err, engine.ErrBusy):
							refused++
							if took > 0 {
								t.Errorf("a refusal took %v", took)
							}
						case err == nil || errors.Is(err, engine.ErrDeadline):
							late++
						default:
							failed++
						}
					})
				}
				for range 20 { // lightly at first, to learn what runs take
					predict(t, e, "m", 1, 1, 0)
				}
				for at := time.Duration(0); at < lasting; {
					rate := times * capacity
					if c.bursts {
						rate *= 2
					}
					gap := time.Duration(random.ExpFloat64() / rate * float64(time.Second))
					if silence := 250 * time.Millisecond; c.bursts && (at+gap)/silence%2 == 1 {
						gap += silence
					}
					time.Sleep(gap)
					at += gap
					ask()
				}
				wg.Wait()
				goodput := float64(onTime) / lasting.Seconds() / capacity
				accepted := float64(onTime) / float64(max(1, onTime+late))
				t.Logf("%.3f of the capacity on time, %.5f of what was accepted", goodput, accepted)
				if goodput < 0.95 || accepted < 0.999 || failed > 0 || refused == 0 {
					t.Errorf("on time are %.3f of the capacity and %.5f of what was accepted; %d late, %d refused, %d failed", goodput, accepted, late, refused, failed)
				}
				began := time.Now()
				predict(t, e, "m", 1, 1, 0)
				if took := time.Since(began); took > 2*mean {
					t.Errorf("a request after the overload took %v, a run takes %v", took, mean)
				}
			})
		})
	}
}

package engine_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// onGPU is a model on a GPU that takes up to 4,096 rows.
var onGPU = engine.Properties{Devices: []string{"GPU-x"}, BatchRows: 4096}

// TestBatchesAreTuned: of a model on a GPU, as many rows are put together as the time of runs of more and more of them says, which is told; of others
// none is measured.
func TestBatchesAreTuned(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		base, each time.Duration
		properties engine.Properties
		options    engine.ModelOptions
		want       int
		says       string
	}{
		// A run of n rows takes 100 µs and n times 1 µs: nine tenths of a million rows a second are reached at 900.
		"a launch that costs a hundred rows": {100 * us, us, onGPU, engine.ModelOptions{}, 1024, "requests are put together to 1024 rows, as measured: 1 row in 101µs, 8 rows in 108µs, 64 rows in 164µs, 512 rows in 612µs, 1024 rows in 1.124ms, 4096 rows in 4.196ms"},
		"rows that cost the same":            {0, us, onGPU, engine.ModelOptions{}, 1, "requests are put together to 1 row, as measured: 1 row in 1µs"},
		"a launch that costs all":            {ms, 0, onGPU, engine.ModelOptions{}, 4096, "4096 rows in 1ms"},
		// A run of 256 is 25.6 ms: whoever comes while it runs would wait too long.
		"slow rows":               {0, 100 * us, onGPU, engine.ModelOptions{}, 1, "256 rows in 25.6ms"},
		"slow launches":           {10 * ms, 100 * us, onGPU, engine.ModelOptions{}, 64, "64 rows in 16.4ms, 128 rows in 22.8ms"},
		"one row takes too long":  {30 * ms, us, onGPU, engine.ModelOptions{}, 1, "as measured: 1 row in 30.001ms"},
		"no more than it takes":   {ms, 0, engine.Properties{Devices: onGPU.Devices, BatchRows: 4096, MaxRows: 100}, engine.ModelOptions{}, 100, "100 rows in 1ms"},
		"the configuration's":     {100 * us, us, onGPU, engine.ModelOptions{MaxBatchRows: 17}, 17, ""},
		"the processor's":         {100 * us, us, engine.Properties{BatchRows: 4096}, engine.ModelOptions{}, 4096, ""},
		"rows that need company":  {100 * us, us, engine.Properties{Devices: onGPU.Devices, BatchRows: 1}, engine.ModelOptions{}, 1, ""},
		"one that says no number": {100 * us, us, engine.Properties{Devices: onGPU.Devices}, engine.ModelOptions{}, 64, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var w watch
			runs := 0
			b := enginetest.New(w.takes(enginetest.Script{Properties: c.properties, OnRun: func(int) error { runs++; return nil }}, c.base, c.each))
			e := newTimedEngine(t, &w, engine.Options{}, b)
			d, err := e.Load(t.Context(), "m", "somewhere", c.options)
			if err != nil {
				t.Fatal(err)
			}
			if d.Options.MaxBatchRows != c.want || !strings.Contains(d.Candidates[0].Reason, c.says) || (c.says == "") != (runs == 0) {
				t.Errorf("%d rows after %d runs: %s", d.Options.MaxBatchRows, runs, d.Candidates[0].Reason)
			}
			predict(t, e, "m", 3, 1, 0)
			if models, instances := b.Live(); models != 1 || instances != int64(d.Options.Instances) {
				t.Errorf("%d models and %d instances are open", models, instances)
			}
		})
	}
}

// TestTuningEndsWhereARunFails: a device has memory for so many rows and no more. One that cannot run one row fails the load.
func TestTuningEndsWhereARunFails(t *testing.T) {
	for most, want := range map[int]int{40: 32, 1: 1, 0: 0} {
		var w watch
		b := enginetest.New(w.takes(enginetest.Script{Properties: onGPU, OnRun: func(rows int) error {
			if rows > most {
				return engine.ErrMemory
			}
			return nil
		}}, time.Millisecond, 0))
		e := newTimedEngine(t, &w, engine.Options{}, b)
		d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
		if want == 0 {
			if !errors.Is(err, engine.ErrMemory) {
				t.Errorf("no row fits: %v", err)
			}
			if models, instances := b.Live(); models != 0 || instances != 0 {
				t.Errorf("%d models and %d instances are left", models, instances)
			}
			continue
		}
		if err != nil || d.Options.MaxBatchRows != want {
			t.Errorf("%d rows fit: %d, %v", most, d.Options.MaxBatchRows, err)
		}
	}
}

// TestInstancesOfDevices: where the options do not say how many there are, a model has what it asks for, or one on each device.
func TestInstancesOfDevices(t *testing.T) {
	for _, c := range []struct {
		properties engine.Properties
		asked      int
		want       int
	}{
		{engine.Properties{Devices: []string{"a", "b", "c"}}, 0, 3},
		{engine.Properties{Devices: []string{"a", "b", "c"}}, 2, 2},
		{engine.Properties{Devices: []string{"a", "b"}, Instances: 4}, 0, 4},
		{engine.Properties{}, 0, 1},
	} {
		e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{Properties: c.properties}))
		d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{Instances: c.asked})
		if err != nil || d.Options.Instances != c.want || len(d.Devices) != len(c.properties.Devices) {
			t.Errorf("%+v: %d instances, %v", c, d.Options.Instances, err)
		}
	}
}

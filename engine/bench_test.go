package engine_test

import (
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// BenchmarkPredict is what the engine itself costs: the fake model's run is a
// few nanoseconds.
func BenchmarkPredict(b *testing.B) {
	for name, p := range map[string]engine.Properties{"inline": inline, "queued": {}} {
		b.Run(name, func(b *testing.B) {
			e := newEngine(b, engine.Options{}, enginetest.New(enginetest.Script{Properties: p}))
			load(b, e, "m", engine.ModelOptions{})
			b.ReportAllocs()
			for b.Loop() {
				m, err := e.Acquire("m")
				if err != nil {
					b.Fatal(err)
				}
				r, err := m.NewRequest(1)
				if err != nil {
					b.Fatal(err)
				}
				if err := r.Predict(b.Context()); err != nil {
					b.Fatal(err)
				}
				r.Release()
				m.Release()
			}
		})
	}
}

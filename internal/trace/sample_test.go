package trace

import (
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc/metadata"
)

// within fails unless a share of n is the fraction, within six standard deviations:
// once in a billion runs it is not.
func within(t *testing.T, what string, got, n int, fraction float64) {
	t.Helper()
	want, allowed := fraction*float64(n), 6*math.Sqrt(float64(n)*fraction*(1-fraction))
	if math.Abs(float64(got)-want) > allowed {
		t.Errorf("%s: %d of %d are taken, want %.0f, give or take %.0f", what, got, n, want, allowed)
	}
}

func TestSamplingFraction(t *testing.T) {
	const n = 200_000
	for _, fraction := range []float64{0, 0.001, 0.1, 0.5, 0.9, 1} {
		s := newSampler(fraction)
		took := 0
		for range n {
			if s.take() {
				took++
			}
		}
		within(t, "one by one", took, n, fraction)

		l := (&Tracer{sampler: s}).Lottery()
		picked, seen := 0, 0
		for seen < n {
			size := min(1+rand.IntN(50), n-seen)
			for at := l.Pick(size); at < size; {
				picked++
				at++
				at += l.Pick(size - at)
			}
			seen += size
		}
		within(t, "in batches", picked, n, fraction)
	}
}

// A request that is not traced costs no allocation, whether tracing is off, or it
// is not its turn, or its parent wants no trace.
func TestUnsampledDoesNotAllocate(t *testing.T) {
	plain := metadata.NewIncomingContext(t.Context(), metadata.Pairs("user-agent", "grpc-go"))
	for name, tracer := range map[string]*Tracer{"off": nil, "not its turn": {sampler: newSampler(0)}} {
		l := tracer.Lottery()
		if n := testing.AllocsPerRun(1000, func() {
			s := tracer.Predicting(plain, "agent", "/picket/Predict")
			s.Model(nil)
			s.Request(nil)
			s.EndCall(nil)
			if l.Pick(10) != 10 {
				t.Fatal("a request was picked")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := parseParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"); !ok {
			t.Fatal("a parent was not understood")
		}
	}); n != 0 {
		t.Errorf("reading a parent: %v allocations", n)
	}
}

// BenchmarkDecision is what a request costs that is not traced.
func BenchmarkDecision(b *testing.B) {
	plain := metadata.NewIncomingContext(b.Context(), metadata.Pairs("user-agent", "grpc-go"))
	parent := metadata.NewIncomingContext(b.Context(), metadata.Pairs("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))
	on := &Tracer{sampler: newSampler(1e-9)}
	b.Run("off", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			(*Tracer)(nil).Predicting(plain, "agent", "/picket/Predict").EndCall(nil)
		}
	})
	b.Run("root", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if on.Predicting(plain, "agent", "/picket/Predict") != nil {
				b.Fatal("picked one in a billion")
			}
		}
	})
	b.Run("parent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			on.Predicting(parent, "agent", "/picket/Predict").EndCall(nil)
		}
	})
	b.Run("lane", func(b *testing.B) {
		l := on.Lottery()
		b.ReportAllocs()
		for b.Loop() {
			l.Pick(1)
		}
	})
}

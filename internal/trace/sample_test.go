package trace

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/metadata"

	"github.com/picket-ml/picket/engine"
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

// nowhere is an exporter that takes everything.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// BenchmarkSampled is what a request costs that is traced, on its own thread: four
// spans, of which the queue may drop some.
func BenchmarkSampled(b *testing.B) {
	q := newQueue(nowhere{}, Options{Queue: 2048, Log: slog.New(slog.DiscardHandler)})
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(q))
	t := &Tracer{sampler: newSampler(1), tracer: provider.Tracer(scope), queue: q}
	b.Cleanup(func() { _ = q.Shutdown(context.Background()) })
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s := t.Predicting(ctx, "agent", "/picket/Predict")
		s.Asked("fraud")
		s.timing = engine.Timing{Arrived: now, Total: 3, Queue: 1, Run: 1, Reply: 1, BatchRows: 1, BatchRequests: 1}
		s.EndCall(nil)
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

package trace

import (
	"context"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

// Together is requests of the lane that are run as one of the engine's, some of
// which are traced. All methods of a nil Together, in which none is, do nothing.
type Together struct {
	tracer *Tracer
	start  time.Time
	timing engine.Timing
}

// Together begins to measure requests that have just come.
func (t *Tracer) Together() *Together { return &Together{tracer: t, start: time.Now()} }

// Request has the engine measure r, which is not predicted yet.
func (b *Together) Request(r *engine.Request) {
	if b != nil {
		r.Timing = &b.timing
	}
}

// Record makes the span of one of the requests, which ends now. model is nil where
// there is none of that name. err is what its client was told, nil for an answer.
func (b *Together) Record(name string, model *engine.Snapshot, rows int, err error) {
	if b == nil {
		return
	}
	s := &Span{tracer: b.tracer, start: b.start, timing: b.timing, failure: err}
	// The lane's frames carry no trace: all its spans are roots.
	s.ctx, s.span = b.tracer.tracer.Start(context.Background(), "lane/predict",
		oteltrace.WithTimestamp(b.start), oteltrace.WithSpanKind(oteltrace.SpanKindServer),
		oteltrace.WithAttributes(semconv.RPCSystemNameKey.String("picket_lane"), semconv.RPCMethod("lane/predict"), protocolKey.String("lane"), rowsKey.Int(rows)))
	if model == nil {
		s.Asked(name)
	} else {
		s.Model(model)
	}
	sentence := ""
	if err != nil {
		sentence = failure.Shorten(err.Error(), failure.MaxSentence)
	}
	s.endRPC(failure.Code(err), sentence)
}

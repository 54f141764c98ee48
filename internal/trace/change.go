package trace

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

var _ engine.Observer = (*Tracer)(nil)

// Changing implements engine.Observer: the span of a model that comes or goes,
// below that of the call that asked for it. Those that nobody asked for over a
// socket, as at the start, are traces of their own.
func (t *Tracer) Changing(ctx context.Context, c engine.Change) func(engine.Description, error) {
	if p := oteltrace.SpanContextFromContext(ctx); p.IsValid() && !p.IsSampled() {
		return func(engine.Description, error) {}
	}
	attributes := []attribute.KeyValue{modelKey.String(failure.Shorten(c.Model, maxName))}
	if c.URL != "" {
		attributes = append(attributes, urlKey.String(failure.Shorten(c.URL, failure.MaxSentence)))
	}
	_, span := t.tracer.Start(ctx, c.Kind.String()+" model", oteltrace.WithAttributes(attributes...))
	return func(d engine.Description, err error) {
		if d.Name != "" {
			span.SetAttributes(modelAttributes(d)...)
		}
		span.SetAttributes(outcomeKey.String(engine.Outcome(err)))
		if err != nil {
			span.SetStatus(otelcodes.Error, failure.Shorten(err.Error(), failure.MaxSentence))
		}
		span.End()
	}
}

package trace

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

// The attributes that no convention has.
const (
	protocolKey      = attribute.Key("picket.protocol")
	modelKey         = attribute.Key("picket.model.name")
	modelVersionKey  = attribute.Key("picket.model.version")
	backendKey       = attribute.Key("picket.model.backend")
	variantKey       = attribute.Key("picket.model.variant")
	urlKey           = attribute.Key("picket.model.url")
	rowsKey          = attribute.Key("picket.rows")
	outcomeKey       = attribute.Key("picket.outcome")
	leftKey          = attribute.Key("picket.left")
	inlineKey        = attribute.Key("picket.inline")
	batchRowsKey     = attribute.Key("picket.batch.rows")
	batchRequestsKey = attribute.Key("picket.batch.requests")
)

// maxName is the most bytes of a model's name that clients may ask for.
const maxName = 255

// Span is one call that is traced, from its coming to its end. It is for one
// goroutine. All methods of a nil Span, of a call that is not traced, do nothing.
type Span struct {
	tracer  *Tracer
	span    oteltrace.Span
	ctx     context.Context
	start   time.Time
	timing  engine.Timing
	failure error
}

// How calls without a parent are decided about.
type choice bool

const (
	byFraction choice = false
	always     choice = true // they are few, and each matters
)

// Predicting begins the span of a gRPC call of that full name, if its client or
// the fraction has it traced. protocol is Picket's own name for the interface.
func (t *Tracer) Predicting(ctx context.Context, protocol, method string) *Span {
	if t == nil {
		return nil
	}
	_, s := t.call(ctx, protocol, method, byFraction)
	return s
}

// Calling begins the span of a gRPC call that loads or unloads a model, which is
// traced unless its client says otherwise. What is done in the context that it
// returns lies below it.
func (t *Tracer) Calling(ctx context.Context, protocol, method string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	return t.call(ctx, protocol, method, always)
}

func (t *Tracer) call(ctx context.Context, protocol, method string, otherwise choice) (context.Context, *Span) {
	text := first(metadata.ValueFromIncomingContext(ctx, parentKey))
	p, has, sampled := t.decide(text, otherwise)
	switch {
	case sampled && has:
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, p.context(first(metadata.ValueFromIncomingContext(ctx, stateKey))))
	case !sampled:
		return unsampled(ctx, p, has && bool(otherwise)), nil
	}
	name := strings.TrimPrefix(method, "/")
	s := t.begin(ctx, name, oteltrace.SpanKindServer, semconv.RPCSystemNameGRPC, semconv.RPCMethod(name), protocolKey.String(protocol))
	return s.ctx, s
}

// HTTP begins the span of a request to a route, if its client or the fraction has
// it traced; change says that it loads or unloads a model, as for Calling. The
// request that it returns is the one to go on with.
func (t *Tracer) HTTP(r *http.Request, change bool) (*http.Request, *Span) {
	if t == nil {
		return r, nil
	}
	p, has, sampled := t.decide(first(r.Header[parentHeader]), choice(change))
	ctx := r.Context()
	switch {
	case sampled && has:
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, p.context(first(r.Header[stateHeader])))
	case !sampled && has && change:
		return r.WithContext(unsampled(ctx, p, true)), nil
	case !sampled:
		return r, nil
	}
	_, route, _ := strings.Cut(r.Pattern, " ")
	s := t.begin(ctx, r.Method+" "+route, oteltrace.SpanKindServer,
		semconv.HTTPRequestMethodKey.String(r.Method), semconv.HTTPRoute(route), semconv.URLPath(failure.ValidText(r.URL.Path)),
		semconv.URLScheme(scheme(r)), semconv.NetworkProtocolVersion(strings.TrimPrefix(r.Proto, "HTTP/")), protocolKey.String("oip"))
	return r.WithContext(context.WithValue(s.ctx, spanKey{}, s)), s
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// spanKey is where a request over HTTP has its span.
type spanKey struct{}

// Of is the span of a request that HTTP has returned.
func (t *Tracer) Of(r *http.Request) *Span {
	if t == nil {
		return nil
	}
	s, _ := r.Context().Value(spanKey{}).(*Span)
	return s
}

// decide is whether a call is traced: as its parent says, where there is one.
func (t *Tracer) decide(text string, otherwise choice) (p parent, has, sampled bool) {
	if text != "" {
		if p, has = parseParent(text); has {
			return p, true, p.sampled
		}
	}
	return p, false, bool(otherwise) || t.sampler.take()
}

// unsampled has what is done in the context know that its caller wants no trace.
func unsampled(ctx context.Context, p parent, matters bool) context.Context {
	if !matters {
		return ctx
	}
	return oteltrace.ContextWithRemoteSpanContext(ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: p.trace, SpanID: p.span, Remote: true}))
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (t *Tracer) begin(ctx context.Context, name string, kind oteltrace.SpanKind, attributes ...attribute.KeyValue) *Span {
	s := &Span{tracer: t, start: time.Now()}
	s.ctx, s.span = t.tracer.Start(ctx, name, oteltrace.WithTimestamp(s.start), oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(attributes...))
	return s
}

// Asked says which model the client named, before it is known whether there is one.
func (s *Span) Asked(model string) {
	if s != nil {
		s.span.SetAttributes(modelKey.String(failure.Shorten(model, maxName)))
	}
}

// Model says which model answers.
func (s *Span) Model(m *engine.Snapshot) {
	if s != nil {
		s.span.SetAttributes(modelAttributes(m.Describe())...)
	}
}

func modelAttributes(d engine.Description) []attribute.KeyValue {
	attributes := []attribute.KeyValue{modelKey.String(d.Name), backendKey.String(d.Backend)}
	if d.Variant != "" {
		attributes = append(attributes, variantKey.String(failure.ValidText(d.Variant)))
	}
	if d.Version != "" {
		attributes = append(attributes, modelVersionKey.String(failure.ValidText(d.Version)))
	}
	return attributes
}

// Request has the engine measure r, which is not predicted yet.
func (s *Span) Request(r *engine.Request) {
	if s != nil {
		r.Timing = &s.timing
		s.span.SetAttributes(rowsKey.Int(r.Rows))
	}
}

// Failed says what went wrong in the engine's words, before it is told in a
// protocol's. nil is nothing.
func (s *Span) Failed(err error) {
	if s != nil {
		s.failure = err
	}
}

// EndCall ends the span of a gRPC call with what its client was told: nil, or a
// status.
func (s *Span) EndCall(err error) {
	if s == nil {
		return
	}
	s.endRPC(status.Code(err), status.Convert(err).Message())
}

// endRPC ends the span of a call with a code and a sentence.
func (s *Span) endRPC(code codes.Code, sentence string) {
	s.span.SetAttributes(semconv.RPCResponseStatusCode(codeName(code)))
	if code != codes.OK {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(codeName(code)))
		if s.failure == nil {
			s.failure = errTold
		}
	}
	if isServers(code) {
		s.span.SetStatus(otelcodes.Error, sentence)
	}
	s.end()
}

// EndHTTP ends the span of a request over HTTP with the status that was sent; err
// is nil, or what went wrong.
func (s *Span) EndHTTP(code int, err error) {
	if s == nil {
		return
	}
	s.span.SetAttributes(semconv.HTTPResponseStatusCode(code))
	if code >= http.StatusBadRequest {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(code)))
		if s.failure == nil {
			s.failure = err
		}
	}
	if code >= http.StatusInternalServerError {
		s.span.SetStatus(otelcodes.Error, http.StatusText(code))
	}
	s.end()
}

func (s *Span) end() {
	s.span.SetAttributes(outcomeKey.String(engine.Outcome(s.failure)))
	s.tracer.phases(s.ctx, s.span, s.start, &s.timing)
	s.span.End()
}

// phases adds what the engine has measured, as spans below the request's. start is
// when that began, on the clock that the spans are told by.
func (t *Tracer) phases(ctx context.Context, request oteltrace.Span, start time.Time, m *engine.Timing) {
	if m.Arrived.IsZero() {
		return // it did not get as far as the engine
	}
	if m.Left != engine.Stayed {
		request.SetAttributes(leftKey.String(m.Left.String()))
	}
	if m.BatchRows == 0 {
		return
	}
	batch := []attribute.KeyValue{batchRowsKey.Int(m.BatchRows), batchRequestsKey.Int(m.BatchRequests), inlineKey.Bool(m.Inline)}
	request.SetAttributes(batch...)
	// Of two monotonic readings, so that a step of the wall clock puts no child
	// outside its parent.
	at := start.Add(m.Arrived.Sub(start))
	for _, phase := range [...]struct {
		name string
		took time.Duration
	}{{"queue", m.Queue}, {"run", m.Run}, {"reply", m.Reply}} {
		_, child := t.tracer.Start(ctx, phase.name, oteltrace.WithTimestamp(at))
		at = at.Add(phase.took)
		child.End(oteltrace.WithTimestamp(at))
	}
}

// isServers tells whether a code is for what went wrong on this side, as the
// conventions have it.
func isServers(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// codeNames are the protocol's own.
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func codeName(c codes.Code) string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return strconv.Itoa(int(c))
}

package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Protocol is how spans are sent.
type Protocol string

// The two forms of OTLP.
const (
	HTTP Protocol = "http"
	GRPC Protocol = "grpc"
)

// Options is what a Tracer is made of. Zero values take what is named here.
type Options struct {
	// Endpoint is the URL of a collector, with the scheme http, https or unix. Over
	// HTTP the path is where traces are posted, /v1/traces if there is none.
	Endpoint string
	// Protocol is HTTP by default.
	Protocol Protocol
	// Sample is the fraction of the requests without a parent that are traced.
	Sample float64
	// Service is what the daemon is called; default "picketd". Version is its own.
	Service, Version string
	// Resource is what else the spans say of where they come from, beside
	// OTEL_RESOURCE_ATTRIBUTES, which the SDK reads.
	Resource []Pair
	// Headers are sent with every export.
	Headers []Pair
	// Queue is how many spans may wait to be sent. Default 2048.
	Queue int
	// Timeout is how long one export may take. Default 10 s.
	Timeout time.Duration
	// Files are for https.
	Files TLSFiles
	// Log is told, once in a while, that spans could not be sent. Nil for nobody.
	Log *slog.Logger
}

// Pair is a name and its value.
type Pair struct{ Name, Value string }

// TLSFiles are PEM files, all optional. They are read once.
type TLSFiles struct {
	CA               string // who may have signed the collector's certificate; default the system's
	Certificate, Key string // the daemon's own, for collectors that ask
}

// Tracer makes spans and sends them. Its methods may be called by many goroutines
// at once. A nil Tracer makes none.
type Tracer struct {
	sampler sampler
	tracer  oteltrace.Tracer
	queue   *queue
}

// scope is what made the spans.
const scope = "github.com/picket-ml/picket"

// New makes a Tracer. It connects to nobody before there is a span to be sent.
func New(o Options) (*Tracer, error) {
	if o.Sample < 0 || o.Sample > 1 {
		return nil, fmt.Errorf("making a tracer: the fraction of requests to sample is %v, it must be from 0 to 1", o.Sample)
	}
	if o.Service == "" {
		o.Service = "picketd"
	}
	if o.Queue <= 0 {
		o.Queue = 2048
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	exporter, err := newExporter(o)
	if err != nil {
		return nil, fmt.Errorf("making a tracer: %w", err)
	}
	q := newQueue(exporter, o)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // who is sampled is decided before there is a span
		sdktrace.WithSpanProcessor(q),
		sdktrace.WithResource(newResource(o)),
	)
	return &Tracer{
		sampler: newSampler(o.Sample), queue: q,
		tracer: provider.Tracer(scope, oteltrace.WithInstrumentationVersion(o.Version), oteltrace.WithSchemaURL(semconv.SchemaURL)),
	}, nil
}

// newResource is what the spans say of the process. What the operator says wins.
func newResource(o Options) *resource.Resource {
	attributes := []attribute.KeyValue{
		semconv.TelemetrySDKName("opentelemetry"), semconv.TelemetrySDKLanguageGo,
		semconv.ProcessPID(os.Getpid()), semconv.ServiceVersion(o.Version),
	}
	if host, err := os.Hostname(); err == nil {
		attributes = append(attributes, semconv.HostName(host))
	}
	for _, p := range o.Resource {
		attributes = append(attributes, attribute.String(p.Name, p.Value))
	}
	// Of two attributes of the same name the last counts.
	return resource.NewWithAttributes(semconv.SchemaURL, append(attributes, semconv.ServiceName(o.Service))...)
}

// Shutdown sends the spans that wait and ends what New began. When ctx ends first
// the rest is dropped, and an error says so.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	// Not the provider's, which does nothing where ctx has ended already.
	if err := t.queue.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last traces: %w", err)
	}
	return nil
}

// Counts are what has become of the spans that have ended.
type Counts struct {
	Exported uint64 // taken by the collector
	Dropped  uint64 // for want of room in the queue, or because the daemon ended
	Failed   uint64 // not taken by the collector
	Waiting  int    // in the queue
	Limit    int    // of the queue
}

// Counts is zero for a nil Tracer.
func (t *Tracer) Counts() Counts {
	if t == nil {
		return Counts{}
	}
	return t.queue.counts()
}

// errTold stands for an error of no kind of the engine's, which its client was told.
var errTold = errors.New("the call failed")

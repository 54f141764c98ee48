// Package collector receives OpenTelemetry traces for tests, in the protocols' own
// messages, over HTTP or gRPC.
package collector

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// patience is how long spans may take to come.
const patience = 30 * time.Second

// Collector keeps what it receives. It ends with its test.
type Collector struct {
	coltracepb.UnimplementedTraceServiceServer

	// Endpoint is its URL, as the configuration has it.
	Endpoint string

	mu      sync.Mutex
	spans   []Span
	headers []http.Header
	came    chan struct{} // a token when there is more
	stalled chan struct{} // nil, or open while nothing is answered
}

// Span is a span as it was received.
type Span struct {
	*tracepb.Span
	Resource  map[string]string
	SchemaURL string
}

// Options is what a Collector is made of.
type Options struct {
	// GRPC serves OTLP over gRPC, else it is HTTP.
	GRPC bool
	// Listener is where; nil for a port of 127.0.0.1.
	Listener net.Listener
	// TLS secures it; nil for plain.
	TLS *tls.Config
}

// Start serves until the test ends.
func Start(t testing.TB, o Options) *Collector {
	t.Helper()
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	c := &Collector{came: make(chan struct{}, 1)}
	switch {
	case l.Addr().Network() == "unix":
		c.Endpoint = "unix://" + l.Addr().String()
	case o.TLS != nil:
		c.Endpoint = "https://" + l.Addr().String()
	default:
		c.Endpoint = "http://" + l.Addr().String()
	}
	serve, stop := c.overHTTP(l, o.TLS)
	if o.GRPC {
		serve, stop = c.overGRPC(l, o.TLS)
	}
	var ended sync.WaitGroup
	ended.Go(serve)
	t.Cleanup(func() {
		c.Resume()
		stop()
		ended.Wait()
	})
	return c
}

func (c *Collector) overHTTP(l net.Listener, secured *tls.Config) (serve, stop func()) {
	if secured != nil {
		l = tls.NewListener(l, secured)
	}
	s := &http.Server{Handler: http.HandlerFunc(c.post), ReadHeaderTimeout: patience}
	return func() { _ = s.Serve(l) }, func() { _ = s.Close() }
}

func (c *Collector) overGRPC(l net.Listener, secured *tls.Config) (serve, stop func()) {
	var options []grpc.ServerOption
	if secured != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secured)))
	}
	s := grpc.NewServer(options...)
	coltracepb.RegisterTraceServiceServer(s, c)
	return func() { _ = s.Serve(l) }, s.Stop
}

// post takes traces over HTTP, and nothing else.
func (c *Collector) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	in := &coltracepb.ExportTraceServiceRequest{}
	switch {
	case err != nil:
		return // the client has left
	case r.Method != http.MethodPost || r.URL.Path != "/v1/traces":
		http.Error(w, "not a place for traces", http.StatusNotFound)
		return
	case r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("Content-Encoding") != "":
		http.Error(w, "not plain protobuf", http.StatusUnsupportedMediaType)
		return
	case proto.Unmarshal(body, in) != nil:
		http.Error(w, "not an ExportTraceServiceRequest", http.StatusBadRequest)
		return
	case !c.answers(r.Context()):
		return
	}
	c.keep(in, r.Header)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Export takes traces over gRPC.
func (c *Collector) Export(ctx context.Context, in *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	if !c.answers(ctx) {
		return nil, ctx.Err()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	header := http.Header{}
	for key, values := range md {
		for _, v := range values {
			header.Add(key, v)
		}
	}
	c.keep(in, header)
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// answers waits while the collector is stalled; false when the client has gone.
func (c *Collector) answers(ctx context.Context) bool {
	c.mu.Lock()
	stalled := c.stalled
	c.mu.Unlock()
	if stalled == nil {
		return true
	}
	select {
	case <-stalled:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Collector) keep(in *coltracepb.ExportTraceServiceRequest, header http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers = append(c.headers, header)
	for _, r := range in.GetResourceSpans() {
		about := texts(r.GetResource().GetAttributes())
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, Span{s, about, scope.GetSchemaUrl()})
			}
		}
	}
	select {
	case c.came <- struct{}{}:
	default:
	}
}

// Stall has the collector take what comes and not answer, until Resume.
func (c *Collector) Stall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = make(chan struct{})
}

// Resume is the reverse of Stall, and nothing if it is not stalled.
func (c *Collector) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled != nil {
		close(c.stalled)
		c.stalled = nil
	}
}

// Spans are those received so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Headers are those of each export.
func (c *Collector) Headers() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.headers)
}

// Wait returns when n spans of that name have come.
func (c *Collector) Wait(t testing.TB, name string, n int) []Span {
	t.Helper()
	end := time.After(patience)
	for {
		var found []Span
		for _, s := range c.Spans() {
			if s.GetName() == name {
				found = append(found, s)
			}
		}
		if len(found) >= n {
			return found
		}
		select {
		case <-c.came:
		case <-end:
			t.Fatalf("%d of %d spans %q have come, and of others %v", len(found), n, name, c.names())
		}
	}
}

func (c *Collector) names() []string {
	var names []string
	for _, s := range c.Spans() {
		names = append(names, s.GetName())
	}
	return names
}

// Below are the spans whose parent is s.
func (c *Collector) Below(s Span) []Span {
	var found []Span
	for _, other := range c.Spans() {
		if string(other.GetParentSpanId()) == string(s.GetSpanId()) && string(other.GetTraceId()) == string(s.GetTraceId()) {
			found = append(found, other)
		}
	}
	return found
}

// Attributes are those of the span, as text.
func (s Span) Attributes() map[string]string { return texts(s.GetAttributes()) }

// Took is how long the span was.
func (s Span) Took() time.Duration {
	return time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano())
}

func texts(pairs []*commonpb.KeyValue) map[string]string {
	all := make(map[string]string, len(pairs))
	for _, p := range pairs {
		switch v := p.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[p.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[p.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_BoolValue:
			all[p.GetKey()] = strconv.FormatBool(v.BoolValue)
		default:
			all[p.GetKey()] = p.GetValue().String()
		}
	}
	return all
}

// CheckPhases wants the spans of the phases below s, in their order, each beginning
// where the one before ends, and all of them within s.
func (c *Collector) CheckPhases(t testing.TB, s Span) {
	t.Helper()
	want := []string{"queue", "run", "reply"}
	below := c.Below(s)
	slices.SortStableFunc(below, func(a, b Span) int { return slices.Index(want, a.GetName()) - slices.Index(want, b.GetName()) })
	at := s.GetStartTimeUnixNano()
	var names []string
	for i, phase := range below {
		names = append(names, phase.GetName())
		if start := phase.GetStartTimeUnixNano(); start < at || i > 0 && start != at || phase.GetEndTimeUnixNano() < start {
			t.Errorf("%s of %s is from %d to %d, and what is before it ends at %d", phase.GetName(), s.GetName(), start, phase.GetEndTimeUnixNano(), at)
		}
		at = phase.GetEndTimeUnixNano()
	}
	if !slices.Equal(names, want) || at > s.GetEndTimeUnixNano() {
		t.Errorf("below %s are %q, up to %d of %d; want %q within it", s.GetName(), names, at, s.GetEndTimeUnixNano(), want)
	}
}

// CheckAttributes wants these of s. An empty text wants that it has none.
func (s Span) CheckAttributes(t testing.TB, want map[string]string) {
	t.Helper()
	have := s.Attributes()
	for key, value := range want {
		if have[key] != value {
			t.Errorf("%s has %s %q, want %q", s.GetName(), key, have[key], value)
		}
	}
}

// Parent is a traceparent of a caller, and CheckParent wants s to lie below it.
const Parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// NotSampled is one of a caller that wants no trace.
const NotSampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

// CheckParent wants s to be a server's, below Parent.
func (s Span) CheckParent(t testing.TB) {
	t.Helper()
	trace, parent := hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetParentSpanId())
	if got := "00-" + trace + "-" + parent + "-01"; got != Parent || s.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("%s is of kind %v below %s, want a server's below %s", s.GetName(), s.GetKind(), got, Parent)
	}
}

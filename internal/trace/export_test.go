package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/collector"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// newTracer is one that ends with the test.
func newTracer(t testing.TB, o Options) *Tracer {
	t.Helper()
	tracer, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Shutdown(t.Context()) })
	return tracer
}

// make1 makes one span.
func make1(t *Tracer) {
	t.Changing(context.Background(), engine.Change{Kind: engine.Loading, Model: "m", URL: "/models/m"})(engine.Description{Name: "m", Backend: "b", Version: "3"}, nil)
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within half a minute", what)
		}
	}
}

func listenUnix(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "otlp.sock"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What a collector gets, over both protocols and every kind of connection. The
// environment says other things than the configuration, and has no say but for what
// it adds to the resource.
func TestExport(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "environment=1")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "environment=1,deployment.environment.name=test")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	own := testkit.NewCertificate(t, "collector", nil)
	certificate, key, pair := own.File, own.Key, own.Pair
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate)
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	secured := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	for name, c := range map[string]struct {
		protocol Protocol
		receiver collector.Options
		files    TLSFiles
	}{
		"http":           {protocol: HTTP},
		"http by socket": {protocol: HTTP, receiver: collector.Options{Listener: listenUnix(t)}},
		"https":          {protocol: HTTP, receiver: collector.Options{TLS: secured}, files: TLSFiles{CA: certificate, Certificate: certificate, Key: key}},
		"grpc":           {protocol: GRPC, receiver: collector.Options{GRPC: true}},
		"grpc by socket": {protocol: GRPC, receiver: collector.Options{GRPC: true, Listener: listenUnix(t)}},
		"grpc by tls": {
			protocol: GRPC, receiver: collector.Options{GRPC: true, TLS: &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}},
			files: TLSFiles{CA: certificate, Certificate: certificate, Key: key},
		},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := collector.Start(t, c.receiver)
			tracer := newTracer(t, Options{
				Endpoint: receiver.Endpoint, Protocol: c.protocol, Service: "scorer", Version: "1.2", Files: c.files,
				Resource: []Pair{{"deployment.environment.name", "production"}, {"service.name", "not this"}}, Headers: []Pair{{"Authorization", "Bearer x"}},
			})
			make1(tracer)
			s := receiver.Wait(t, "load model", 1)[0]
			for key, want := range map[string]string{
				"service.name": "scorer", "service.version": "1.2", "deployment.environment.name": "production",
				"telemetry.sdk.language": "go", "environment": "1",
			} {
				if got := s.Resource[key]; got != want {
					t.Errorf("the resource has %s %q, want %q", key, got, want)
				}
			}
			for key, want := range map[string]string{
				"picket.model.name": "m", "picket.model.backend": "b", "picket.model.version": "3", "picket.model.url": "/models/m", "picket.outcome": "ok",
			} {
				if got := s.Attributes()[key]; got != want {
					t.Errorf("the span has %s %q, want %q", key, got, want)
				}
			}
			if len(s.GetParentSpanId()) != 0 || len(s.GetTraceId()) != 16 || !strings.HasPrefix(s.SchemaURL, "https://opentelemetry.io/schemas/1.") {
				t.Errorf("the span is %v of schema %s", s.Span, s.SchemaURL)
			}
			header := receiver.Headers()[0]
			if got := header.Get("authorization"); got != "Bearer x" || header.Get("environment") != "" {
				t.Errorf("it came with the headers %v", header)
			}
			if err := tracer.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if got := tracer.Counts(); got.Exported != 1 || got.Dropped+got.Failed != 0 || got.Waiting != 0 {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "no.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{
		"must begin with http://":     {Endpoint: "ftp://127.0.0.1"},
		"is no URL":                   {Endpoint: "http://[::1"},
		"neither http nor grpc":       {Endpoint: "http://127.0.0.1:1", Protocol: "carrier pigeon"},
		"it must be from 0 to 1":      {Endpoint: "http://127.0.0.1:1", Sample: 1.5},
		"has no certificate in PEM":   {Endpoint: "https://127.0.0.1:1", Files: TLSFiles{CA: noPEM}},
		"reading the daemon's certif": {Endpoint: "https://127.0.0.1:1", Files: TLSFiles{Certificate: noPEM, Key: noPEM}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

// While the collector takes nothing, spans are dropped beyond the queue, and making
// them goes on; each is accounted for.
func TestStalledCollector(t *testing.T) {
	receiver := collector.Start(t, collector.Options{})
	receiver.Stall()
	tracer := newTracer(t, Options{Endpoint: receiver.Endpoint, Queue: 10})
	make1(tracer)
	eventually(t, "the first export is under way", func() bool { return tracer.Counts().Waiting == 0 })
	const more = 1000
	for range more {
		make1(tracer)
	}
	if c := tracer.Counts(); c.Waiting > 10 || c.Limit != 10 || c.Dropped < more-10-batchSpans || int(c.Dropped)+c.Waiting > more || c.Exported+c.Failed != 0 {
		t.Errorf("of %d spans while the collector is stalled: %+v", more, c)
	}
	receiver.Resume()
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	c := tracer.Counts()
	if c.Exported+c.Dropped != more+1 || c.Failed != 0 || c.Dropped == 0 || len(receiver.Spans()) != int(c.Exported) {
		t.Errorf("of %d spans in all %+v, and %d came", more+1, c, len(receiver.Spans()))
	}
	make1(tracer)
	if after := tracer.Counts(); after.Dropped != c.Dropped+1 {
		t.Errorf("a span after the end is not counted: %+v", after)
	}
}

// A collector that is away loses spans and is said so once; when it is back it gets
// what comes then, without anybody's doing.
func TestCollectorAway(t *testing.T) {
	for name, grpc := range map[string]bool{"http": false, "grpc": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "otlp.sock")
			var log testkit.Output
			o := Options{Endpoint: "unix://" + path, Log: slog.New(slog.NewTextHandler(&log, nil)), Protocol: HTTP}
			if grpc {
				o.Protocol = GRPC
			}
			tracer := newTracer(t, o)
			for want := range uint64(2) {
				make1(tracer)
				eventually(t, "the export has failed", func() bool { return tracer.Counts().Failed > want })
			}
			if n := strings.Count(log.String(), "sending traces failed"); n != 1 {
				t.Errorf("it is said %d times: %s", n, log.String())
			}
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			receiver := collector.Start(t, collector.Options{Listener: l, GRPC: grpc})
			eventually(t, "spans come again", func() bool {
				make1(tracer)
				time.Sleep(100 * time.Millisecond)
				return len(receiver.Spans()) > 0
			})
			eventually(t, "it is said", func() bool { return strings.Contains(log.String(), "traces are taken again") })
		})
	}
}

// The end sends what waits, and does not wait longer than it may.
func TestShutdown(t *testing.T) {
	receiver := collector.Start(t, collector.Options{GRPC: true})
	tracer := newTracer(t, Options{Endpoint: receiver.Endpoint, Protocol: GRPC})
	const n = 3*batchSpans/2 + 1
	for range n {
		make1(tracer)
	}
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(receiver.Spans()); got != n {
		t.Errorf("%d of %d spans came", got, n)
	}

	receiver.Stall()
	tracer = newTracer(t, Options{Endpoint: receiver.Endpoint, Protocol: GRPC})
	for range n {
		make1(tracer)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tracer.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a collector that is stalled: %v", err)
	}
	if c := tracer.Counts(); c.Failed+c.Dropped != n || c.Waiting != 0 {
		t.Errorf("of %d spans: %+v", n, c)
	}
	var off *Tracer
	if err := off.Shutdown(t.Context()); err != nil || off.Counts() != (Counts{}) {
		t.Error("a tracer that is off does something at the end")
	}
}

// A change asked for by a caller that wants no trace has none.
func TestChangeRespectsItsParent(t *testing.T) {
	receiver := collector.Start(t, collector.Options{})
	tracer := newTracer(t, Options{Endpoint: receiver.Endpoint})
	p, _ := parseParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	tracer.Changing(unsampled(t.Context(), p, true), engine.Change{Model: "hidden"})(engine.Description{}, nil)
	tracer.Changing(t.Context(), engine.Change{Kind: engine.Unloading, Model: "m"})(engine.Description{}, engine.ErrNotFound)
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := receiver.Spans()
	if len(spans) != 1 || spans[0].GetName() != "unload model" || spans[0].GetStatus().GetMessage() == "" || spans[0].Attributes()["picket.outcome"] != "other" {
		t.Errorf("got %v", spans)
	}
}

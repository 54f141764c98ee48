package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// idleTime is how long a connection to the collector is kept that nothing is sent over.
const idleTime = 90 * time.Second

// tracesPath is where collectors take traces over HTTP.
const tracesPath = "/v1/traces"

// closingExporter closes what the exporter was given, which it does not own.
type closingExporter struct {
	*otlptrace.Exporter
	close func() error
}

// Shutdown implements sdktrace.SpanExporter.
func (e *closingExporter) Shutdown(ctx context.Context) error {
	return errors.Join(e.Exporter.Shutdown(ctx), e.close())
}

// newExporter connects to nobody yet. The exporters read the environment where an
// option is missing, and the configuration has done so already: every option is
// given, and the connections are ours.
func newExporter(o Options) (sdktrace.SpanExporter, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the endpoint is no URL: %w", err)
	}
	var secured *tls.Config
	switch endpoint.Scheme {
	case "http", "unix":
	case "https":
		if secured, err = o.Files.config(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("the endpoint %q must begin with http://, https:// or unix://", o.Endpoint)
	}
	headers := make(map[string]string, len(o.Headers))
	for _, h := range o.Headers {
		headers[strings.ToLower(h.Name)] = h.Value
	}
	switch o.Protocol {
	case HTTP, "":
		return overHTTP(o, endpoint, secured, headers)
	case GRPC:
		return overGRPC(o, endpoint, secured, headers)
	}
	return nil, fmt.Errorf("the protocol %q is neither http nor grpc", o.Protocol)
}

func overHTTP(o Options, endpoint *url.URL, secured *tls.Config, headers map[string]string) (sdktrace.SpanExporter, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: secured, ForceAttemptHTTP2: true,
		MaxIdleConns: 1, IdleConnTimeout: idleTime,
	}
	host, path := endpoint.Host, endpoint.Path
	if endpoint.Scheme == "unix" {
		socket := endpoint.Path
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
		host, path = "localhost", ""
	}
	if path == "" {
		path = tracesPath
	}
	scheme := "https"
	if secured == nil {
		scheme = "http"
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(scheme + "://" + host + path), otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf), otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithTimeout(o.Timeout), otlptracehttp.WithCompression(otlptracehttp.NoCompression),
		otlptracehttp.WithTLSClientConfig(nil), otlptracehttp.WithHTTPClient(&http.Client{Transport: transport}),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}),
	}
	e, err := otlptracehttp.New(context.Background(), options...)
	if err != nil {
		return nil, err
	}
	return &closingExporter{e, func() error { transport.CloseIdleConnections(); return nil }}, nil
}

func overGRPC(o Options, endpoint *url.URL, secured *tls.Config, headers map[string]string) (sdktrace.SpanExporter, error) {
	target := "dns:///" + endpoint.Host
	if endpoint.Scheme == "unix" {
		target = "unix://" + endpoint.Path
	}
	c := insecure.NewCredentials()
	if secured != nil {
		c = credentials.NewTLS(secured)
	}
	reconnect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: o.Timeout}
	reconnect.Backoff.MaxDelay = maxPause
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(c), grpc.WithIdleTimeout(idleTime), grpc.WithConnectParams(reconnect))
	if err != nil {
		return nil, err
	}
	e, err := otlptracegrpc.New(context.Background(),
		otlptracegrpc.WithGRPCConn(conn), otlptracegrpc.WithHeaders(headers), otlptracegrpc.WithTimeout(o.Timeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &closingExporter{e, conn.Close}, nil
}

// config reads the files.
func (f TLSFiles) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("reading the authorities of the collector: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the authorities of the collector: %s has no certificate in PEM form", f.CA)
		}
	}
	if f.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
		if err != nil {
			return nil, fmt.Errorf("reading the daemon's certificate for the collector: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

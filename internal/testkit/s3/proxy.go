package s3

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/picket-ml/picket/internal/cloud"
)

// Proxy is the network to a server: a toxiproxy that passes everything on until a
// fault is set. Faults hold for connections that are made afterwards and for those
// that are open, and until Clear.
type Proxy struct {
	// Endpoint is the server's, through the proxy.
	Endpoint string

	proxy  *toxiproxy.Proxy
	server *Server
	mu     sync.Mutex
	faults int
}

// NewProxy starts a proxy to the server, which ends with the test.
func NewProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // some faults tell the world
	silent := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := &Proxy{server: s, proxy: toxiproxy.NewProxy(silent, "s3", "127.0.0.1:0", s.Address)}
	if err := p.proxy.Start(); err != nil {
		t.Fatalf("starting the proxy: %v", err)
	}
	scheme, _, _ := strings.Cut(s.Endpoint, "://")
	p.Endpoint = scheme + "://" + p.proxy.Listen
	t.Cleanup(p.proxy.Stop)
	return p
}

// Options reach the server through the proxy, as its root.
func (p *Proxy) Options() cloud.Options {
	o := p.server.Options()
	o.Endpoint = p.Endpoint
	return o
}

// Down refuses connections and breaks those that are open, as a line that is cut.
func (p *Proxy) Down() { p.proxy.Stop() }

// Up is the end of Down.
func (p *Proxy) Up(t testing.TB) {
	t.Helper()
	if err := p.proxy.Start(); err != nil {
		t.Fatalf("starting the proxy again: %v", err)
	}
}

// Cut breaks each connection when it has brought this many bytes.
func (p *Proxy) Cut(t testing.TB, after int64) {
	t.Helper()
	p.add(t, "limit_data", "downstream", map[string]any{"bytes": after})
}

// CutUpload breaks each connection when it has taken this many bytes.
func (p *Proxy) CutUpload(t testing.TB, after int64) {
	t.Helper()
	p.add(t, "limit_data", "upstream", map[string]any{"bytes": after})
}

// Stall keeps connections open and lets nothing through.
func (p *Proxy) Stall(t testing.TB) {
	t.Helper()
	p.add(t, "timeout", "downstream", map[string]any{"timeout": 0})
}

// Reset ends each connection with a reset after this time.
func (p *Proxy) Reset(t testing.TB, after time.Duration) {
	t.Helper()
	p.add(t, "reset_peer", "downstream", map[string]any{"timeout": after.Milliseconds()})
}

// Delay keeps every byte back for this long.
func (p *Proxy) Delay(t testing.TB, by time.Duration) {
	t.Helper()
	p.add(t, "latency", "downstream", map[string]any{"latency": by.Milliseconds()})
}

// Slow lets a connection bring so many KiB a second.
func (p *Proxy) Slow(t testing.TB, kib int) {
	t.Helper()
	p.add(t, "bandwidth", "downstream", map[string]any{"rate": kib})
}

// Clear ends all faults but Down.
func (p *Proxy) Clear(t testing.TB) {
	t.Helper()
	p.proxy.Toxics.ResetToxics(t.Context())
}

func (p *Proxy) add(t testing.TB, kind, stream string, attributes map[string]any) {
	t.Helper()
	p.mu.Lock()
	p.faults++
	name := fmt.Sprintf("%s-%d", kind, p.faults)
	p.mu.Unlock()
	text, err := json.Marshal(map[string]any{"name": name, "type": kind, "stream": stream, "toxicity": 1, "attributes": attributes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
		t.Fatalf("setting the fault %s: %v", kind, err)
	}
}

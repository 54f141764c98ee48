package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	promodel "github.com/prometheus/common/model"

	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/store"
)

// site is one application server with the front-end before it, and who is asked for scores.
type site struct {
	name     string   // of its folder, and of the application server in the database
	protocol string   // how scores are asked for
	asks     []string // what else the application is told about whom to ask
	version  string   // of who is asked, where that is not ours

	dsn        string // of its database, empty for SQLite
	simulation *generate.Simulation

	address string // of the front-end
	trusted *x509.CertPool
	metrics *http.Client // of picketd; nil where somebody else is asked
}

// newSite makes a site's folder and its database, with a past.
func (p *programs) newSite(ctx context.Context, name, protocol string) (_ *site, err error) {
	s := &site{name: name, protocol: protocol, simulation: generate.New(generate.Options{Customers: customers})}
	if err := os.Mkdir(p.folder(s), 0o700); err != nil {
		return nil, err
	}
	if p.postgres != nil {
		if s.dsn, err = p.postgres.Create("fraud_" + name); err != nil {
			return nil, err
		}
	}
	database, err := store.Open(ctx, store.Options{DSN: s.dsn, Path: filepath.Join(p.folder(s), "fraud.db")})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, database.Close()) }()
	var past []store.Past
	for range historyDays {
		today := s.simulation.Day()
		for i := range today {
			past = append(past, store.Past{ID: today[i].ID(), Transaction: today[i].Transaction, Fraud: today[i].Fraud()})
		}
	}
	_, err = database.Import(ctx, past)
	return s, err
}

func (p *programs) folder(s *site) string { return filepath.Join(p.dir, s.name) }

// startPicketd starts picketd in the site's folder as `make run` does: it gives reasons, and captures a part of what it is asked.
func (p *programs) startPicketd(ctx context.Context, o *settings, s *site) error {
	dir := p.folder(s)
	if err := os.Mkdir(filepath.Join(dir, "region"), 0o700); err != nil {
		return err
	}
	config := fmt.Sprintf(`unsigned: true
state_dir: %[1]s/state
sockets: {dir: %[1]s}
model_defaults:
  explain: true
  capture: {rate: %[2]g}
capture:
  enabled: %[3]t
  destination: {directory: %[1]s/region}
  residency:
    version: benchmark
    destinations: [{directory: %[1]s/region}]
    models:
      - {model: "*", samples: true, otherwise: allow, outputs: allow, truth: allow, ids: allow}
`, dir, o.capture, o.capture > 0)
	file := filepath.Join(dir, "picketd.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	if err := p.start(s.process(picketd), filepath.Join(p.bin, "picketd"), "--config", file, "--sockets", dir); err != nil {
		return err
	}
	socket := filepath.Join(dir, "oip.sock")
	s.metrics = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return wait(ctx, filepath.Join(dir, "control.sock"))
}

// process is what a program is called among the site's.
func (s *site) process(name string) string {
	if s.name == alone {
		return name
	}
	return name + " " + s.name
}

// alone is the name of a site that has no other beside it.
const alone = "a"

// open starts the application server and the front-end.
func (p *programs) open(ctx context.Context, o *settings, s *site) error {
	dir := p.folder(s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	socket := filepath.Join(dir, "app.sock")
	args := []string{
		"application", "--listen", "unix:" + socket, "--state", dir, "--sockets", dir, "--models", models, "--client-keys", p.keys, "--any-time",
		"--budget", o.budget.String(), "--name", s.name, "--protocol", s.protocol,
	}
	if s.dsn != "" {
		args = append(args, "--dsn", s.dsn)
	}
	if err := p.start(s.process("application"), filepath.Join(p.bin, "fraud"), append(args, s.asks...)...); err != nil {
		return err
	}
	if err := wait(ctx, socket); err != nil {
		return err
	}
	if err := p.start(s.process("frontend"), filepath.Join(p.bin, "fraud"), "frontend", "--listen", s.address, "--application", "unix:"+socket, "--state", dir, "--rate", "-1"); err != nil {
		return err
	}
	if err := reach(ctx, s.address); err != nil { // it has made its certificate before
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "frontend.pem"))
	if err != nil {
		return err
	}
	s.trusted = x509.NewCertPool()
	s.trusted.AppendCertsFromPEM(text)
	return nil
}

// inside is what picketd has told of all its models until now: how many questions were answered, and how long it had them, in seconds.
type inside struct{ requests, took float64 }

// inside reads it; it is zero where somebody else is asked.
func (s *site) inside(ctx context.Context) (inside, error) {
	var sum inside
	if s.metrics == nil {
		return sum, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picketd/metrics", nil)
	if err != nil {
		return sum, err
	}
	answer, err := s.metrics.Do(request)
	if err != nil {
		return sum, fmt.Errorf("reading picketd's metrics: %w", err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(promodel.LegacyValidation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		return sum, fmt.Errorf("reading picketd's metrics: %w", err)
	}
	for _, m := range families["picket_model_duration_seconds"].GetMetric() {
		h := m.GetHistogram()
		switch phaseOf(m) {
		case "total":
			sum.requests += float64(h.GetSampleCount())
			sum.took += h.GetSampleSum()
		case "reply":
			sum.took += h.GetSampleSum()
		}
	}
	return sum, nil
}

func phaseOf(m *dto.Metric) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == "phase" {
			return l.GetValue()
		}
	}
	return ""
}

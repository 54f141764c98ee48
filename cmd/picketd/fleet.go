package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

const (
	// fleetDir is in the state directory.
	fleetDir = "fleet"
	// maxFleetFile bounds the small files that the configuration names for the fleet.
	maxFleetFile = 1 << 20
	// heartbeatPatience is how long the server may take to answer.
	heartbeatPatience = 30 * time.Second
)

// openFleet makes the daemon a device of its fleet; nil where it is of none.
func (d *daemon) openFleet(ctx context.Context) (*device.Agent, error) {
	c := d.config.Load()
	f := c.Fleet
	if !f.Configured() {
		return nil, nil
	}
	a, err := d.newDevice(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("joining the fleet %s: %w", f.Name, err)
	}
	d.log.Info("this daemon is a device of a fleet", "fleet", f.Name, "group", f.Group, "device", f.Device, "place", f.Place, "position", fleet.Position(f.Device))
	return a, nil
}

func (d *daemon) newDevice(ctx context.Context, c *config.Config) (*device.Agent, error) {
	f := c.Fleet
	o := device.Options{
		Name: f.Device, Fleet: f.Name, Group: f.Group, Dir: filepath.Join(c.StateDir, fleetDir), Loader: &fleetLoader{d},
		Interval: f.Interval, Version: version, Log: d.log.With("fleet", f.Name),
	}
	var err error
	if o.Bucket, err = fleet.Open(ctx, f.Place, c.AWS); err != nil {
		return nil, err
	}
	if f.Root != "" {
		if o.Root, err = readFleetFile(f.Root); err != nil {
			return nil, fmt.Errorf("reading the root document: %w", err)
		}
	}
	if f.Server == "" {
		return device.New(o)
	}
	words, err := readFleetFile(f.Credentials)
	if err != nil {
		return nil, fmt.Errorf("reading the credentials for the server: %w", err)
	}
	fields := strings.Fields(string(words))
	if len(fields) < 2 || len(fields) > 3 {
		return nil, fmt.Errorf("reading the credentials for the server: %s must hold an access key and a secret", f.Credentials)
	}
	client, err := fleetClient(f.CA)
	if err != nil {
		return nil, err
	}
	o.Client, err = edge.NewClient(edge.ClientOptions{
		Endpoint: f.Server, Region: regionOf(c), Credentials: credentials.NewStaticCredentialsProvider(fields[0], fields[1], ""), HTTP: client,
	})
	if err != nil {
		return nil, err
	}
	return device.New(o)
}

// regionOf is what requests to the server are signed for; it does not matter to ours.
func regionOf(c *config.Config) string {
	if c.AWS.Region != "" {
		return c.AWS.Region
	}
	return "us-east-1"
}

func fleetClient(ca string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if ca != "" {
		pem, err := readFleetFile(ca)
		if err != nil {
			return nil, fmt.Errorf("reading who may have signed the server's certificate: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading who may have signed the server's certificate: there is no certificate in %s", ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: heartbeatPatience}, nil
}

func readFleetFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var data bytes.Buffer
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxFleetFile {
		return nil, fmt.Errorf("%s is no file of a sensible size", path)
	}
	_, err = data.ReadFrom(f)
	return data.Bytes(), err
}

// runFleet looks for what the fleet wants until ctx ends.
func (d *daemon) runFleet(ctx context.Context) {
	if d.fleet == nil {
		return
	}
	d.fleet.Run(ctx)
	if !d.handedOver.Load() { // then the files are another process's
		d.fleet.Close()
	}
}

// isFleets tells whether a model comes from the fleet.
func isFleets(c *config.Config, url string) bool {
	return c.StateDir != "" && strings.HasPrefix(url, filepath.Join(c.StateDir, fleetDir)+string(filepath.Separator))
}

// fleetLoader has the daemon's engine serve what the fleet wants. The models are the
// fleet's: those that the configuration declares are not touched.
type fleetLoader struct{ d *daemon }

// Load implements device.Loader.
func (l *fleetLoader) Load(ctx context.Context, model, path string, p fleet.Package, older bool) error {
	for _, m := range l.d.declared.models() {
		if m.Name == model {
			return fmt.Errorf("the configuration of this daemon declares a model %s: take it out there, or give the fleet's another name", model)
		}
	}
	l.d.store.Vouch(path, p.Digest, older)
	_, err := l.d.engine.Replace(ctx, model, path, engine.ModelOptions{})
	for _, passing := range []error{engine.ErrMemory, engine.ErrCanceled, engine.ErrDeadline, engine.ErrClosed, engine.ErrExists} {
		if errors.Is(err, passing) {
			return fmt.Errorf("%w: %w", device.ErrTransient, err)
		}
	}
	return err
}

// Unload implements device.Loader.
func (l *fleetLoader) Unload(ctx context.Context, model string) error {
	short, cancel := context.WithTimeout(ctx, l.d.config.Load().Shutdown.Grace)
	defer cancel()
	if err := l.d.engine.Unload(short, model); err != nil && !errors.Is(err, engine.ErrNotFound) {
		return err
	}
	return nil
}

// Kinds of failure: those that are a model's own, and those that say nothing of it.
var (
	ownFailures    = []string{"run", "other"}
	othersFailures = []string{"input", "busy", "deadline", "canceled", "memory"}
)

// Stats implements device.Loader.
func (l *fleetLoader) Stats(model string) (device.Stats, bool) {
	s, err := l.d.engine.Acquire(model)
	if err != nil {
		return device.Stats{}, false
	}
	defer s.Release()
	stats := s.Stats()
	out := device.Stats{Requests: stats.Requests, P99: stats.Run.Quantile(0.99)}
	for _, kind := range othersFailures {
		out.Requests -= min(out.Requests, stats.Failed[kind])
	}
	for _, kind := range ownFailures {
		out.Failed += stats.Failed[kind]
	}
	return out, true
}

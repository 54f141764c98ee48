// Package fleettest is a fleet of simulated devices: the real code of devices, of the
// server and of the documents, with models that only pretend to run. Tests and
// benchmarks use it.
package fleettest

import (
	"context"
	"crypto/sha1" // as the old API has it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

// Loader pretends to serve models. It implements device.Loader.
type Loader struct {
	// Bad is what loading a package fails with, by its version; nil for nothing. It is
	// not changed while the loader is used.
	Bad map[string]error
	// Dies ends the daemon, as far as the device can tell, when the version is loaded.
	Dies map[string]func()

	mu     sync.Mutex
	models map[string]string
	stats  map[string]device.Stats
	loads  int
}

// Load implements device.Loader.
func (l *Loader) Load(_ context.Context, model, path string, p fleet.Package, _ bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != p.SHA256 {
		return errors.New("the file is another one")
	}
	if die := l.Dies[p.Version]; die != nil {
		die()
	}
	if err := l.Bad[p.Version]; err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.models == nil {
		l.models = map[string]string{}
	}
	l.models[model] = p.Version
	delete(l.stats, model)
	l.loads++
	return nil
}

// Unload implements device.Loader.
func (l *Loader) Unload(_ context.Context, model string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.models, model)
	return nil
}

// Stats implements device.Loader.
func (l *Loader) Stats(model string) (device.Stats, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, there := l.models[model]
	return l.stats[model], there
}

// SetStats has the model that is loaded have done that.
func (l *Loader) SetStats(model string, s device.Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stats == nil {
		l.stats = map[string]device.Stats{}
	}
	l.stats[model] = s
}

// Version is what is served; empty for nothing.
func (l *Loader) Version(model string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.models[model]
}

// Bucket counts what a bucket is asked for.
type Bucket struct {
	fleet.Bucket
	// Gets are requests for documents, of which NotModified were answered without one;
	// Downloads are packages.
	Gets, NotModified, Downloads atomic.Int64
}

// Get implements fleet.Bucket.
func (b *Bucket) Get(ctx context.Context, key, etag string, limit int64) ([]byte, string, error) {
	b.Gets.Add(1)
	data, tag, err := b.Bucket.Get(ctx, key, etag, limit)
	if errors.Is(err, fleet.ErrNotModified) {
		b.NotModified.Add(1)
	}
	return data, tag, err
}

// Download implements fleet.Bucket.
func (b *Bucket) Download(ctx context.Context, key, path string, size int64) error {
	b.Downloads.Add(1)
	return b.Bucket.Download(ctx, key, path, size)
}

// Publish puts a pretended package of that version into the bucket.
func Publish(ctx context.Context, b fleet.Bucket, dir, version string, size int) (fleet.Package, error) {
	data := make([]byte, size)
	copy(data, "package "+version)
	path := dir + "/" + version + ".tar.gz"
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fleet.Package{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return fleet.Package{}, err
	}
	defer f.Close()
	long, short := sha256.Sum256(data), sha1.Sum(data) // as above
	p := fleet.Package{
		Name: "fraud", Version: version, Digest: fmt.Sprintf("sha256:%x", long), File: "packages/fraud-" + version + ".tar.gz",
		Size: int64(size), SHA256: fmt.Sprintf("%x", long), SHA1: fmt.Sprintf("%x", short),
	}
	return p, b.Upload(ctx, p.File, f)
}

// Begin publishes a rollout of the model fraud to the group default, as the command line
// does.
func Begin(ctx context.Context, p *fleet.Publisher, id string, to fleet.Package, previous *fleet.Package, stages []float64, h fleet.Health, at time.Time) error {
	return p.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
		d, err := e.Reader.Devices(ctx)
		if err != nil {
			return err
		}
		err = e.SetGroup(ctx, &fleet.Group{Fleet: d.Fleet, Group: "default", Pins: []fleet.Pin{}, Models: []fleet.Model{{
			Name: "fraud", Package: to, Previous: previous, Rollout: fleet.Rollout{ID: id, Stages: stages, Health: h},
		}}})
		if err != nil {
			return err
		}
		return e.SetProgress(ctx, &fleet.Progress{Fleet: d.Fleet, Group: "default", Rollouts: []fleet.RolloutState{
			{Model: "fraud", Rollout: id, State: fleet.Running, Since: at},
		}})
	})
}

// Register adds devices to the group default.
func Register(ctx context.Context, p *fleet.Publisher, names []string) error {
	return p.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
		d, err := e.Reader.Devices(ctx)
		if err != nil {
			return err
		}
		for _, n := range names {
			d.Devices[n] = "default"
		}
		return e.SetDevices(ctx, d)
	})
}

// Keys are credentials that all devices share, as edge.Credentials.
type Keys struct{}

// The one key and its secret.
const (
	AccessKey = "PKTEST"
	SecretKey = "a-secret-that-all-devices-of-a-test-share"
)

// Secret implements edge.Credentials.
func (Keys) Secret(key string) (string, bool) { return SecretKey, key == AccessKey }

// May implements edge.Credentials.
func (Keys) May(key, _ string) bool { return key == AccessKey }

// Client is one of the server at endpoint with that key.
func Client(endpoint string, transport http.RoundTripper, now func() time.Time) (*edge.Client, error) {
	return edge.NewClient(edge.ClientOptions{
		Endpoint: endpoint, Region: "us-west-2", Credentials: credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
		HTTP: &http.Client{Transport: transport, Timeout: time.Minute}, Now: now,
	})
}

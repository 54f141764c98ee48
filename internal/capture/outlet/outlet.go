// Package outlet makes the way out of the host that a configuration describes: the
// policy, the destination, the audit log and the formats. The daemon sends what it
// captured through it, and `picket capture test` one record of its own.
package outlet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/upload"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/tensor"
)

// Outlet is the way out.
type Outlet struct {
	// Policy, Destination and Audit are what an Uploader works with.
	Policy      *residency.Policy
	Destination upload.Destination
	Audit       *residency.Audit

	options upload.Options
	recipe  upload.Recipe // which says what options say
}

// maxKey is far above any key of hashes.
const maxKey = 64 << 10

// Policy is what the configuration says of what may leave. The error has one line for
// each mistake, with its key.
func Policy(c *config.Config) (*residency.Policy, error) {
	r := c.Capture.Residency
	o := residency.Options{Version: r.Version, Metrics: r.Metrics, K: r.K}
	if r.Key != "" {
		key, err := readKey(r.Key)
		if err != nil {
			return nil, fmt.Errorf("capture.residency.key: %w", err)
		}
		o.Salt = key
	}
	for _, d := range r.Destinations {
		o.Destinations = append(o.Destinations, residency.Destination{Bucket: d.Bucket, Account: d.Account, Region: d.Region, Outpost: d.Outpost, Directory: d.Directory})
	}
	for _, m := range r.Models {
		rule := residency.ModelRule{
			Model: m.Model, Samples: m.Samples, Columns: m.Columns, Otherwise: residency.Action(m.Otherwise), Outputs: residency.Action(m.Outputs),
			Auxiliary: residency.Action(m.Auxiliary), Truth: residency.Action(m.Truth), IDs: residency.Action(m.IDs),
		}
		for _, f := range m.Features {
			rule.Features = append(rule.Features, residency.FeatureRule{
				Tensor: f.Tensor, Feature: f.Feature, Action: residency.Action(f.Action), Bounds: f.Bounds, Digits: f.Digits,
			})
		}
		o.Models = append(o.Models, rule)
	}
	p, err := residency.New(o)
	if err != nil {
		return nil, prefixed("capture.residency.", err)
	}
	return p, nil
}

// prefixed puts prefix before each line of err.
func prefixed(prefix string, err error) error {
	var all []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			all = append(all, prefixed(prefix, one))
		}
		return errors.Join(all...)
	}
	return fmt.Errorf("%s%w", prefix, err)
}

// readKey reads the key of hashes, which must be a secret.
func readKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxKey:
		return nil, fmt.Errorf("%s is no file of a sensible size", file)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s may be read or written by others (mode %04o): take that away, chmod 600", file, info.Mode().Perm())
	}
	return os.ReadFile(file)
}

// AuditDir is where the audit log is; empty for nowhere.
func AuditDir(c *config.Config) string {
	if dir := c.Capture.Residency.Audit; dir != "" || c.StateDir == "" {
		return dir
	}
	return filepath.Join(c.StateDir, "audit")
}

// Open makes the way out that c describes, which names a destination, and nobody is asked
// yet. It fails where the configuration is wrong, and where the policy does not allow the
// destination.
func Open(ctx context.Context, c *config.Config, p *residency.Policy, log *slog.Logger) (_ *Outlet, err error) {
	capture := c.Capture
	o := &Outlet{Policy: p, Audit: residency.NewAudit(AuditDir(c))}
	device := capture.Format.Device
	if device == "" {
		if device, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("capture.format.device is empty, and the host's name is not known: %w", err)
		}
	}
	windows, err := upload.ParseWindows(capture.Upload.Windows, capture.Upload.Zone)
	if err != nil {
		return nil, fmt.Errorf("capture.upload.windows: %w", err)
	}
	where := residency.Destination{Directory: capture.Destination.Directory}
	if bucket := capture.Destination.Bucket; bucket != "" {
		if err := residency.CheckBucket(bucket); err != nil {
			return nil, fmt.Errorf("capture.destination.bucket: %w", err)
		}
		aws := c.AWS
		if own := capture.Upload.Bandwidth; own > 0 && (aws.Bandwidth == 0 || own < aws.Bandwidth) {
			aws.Bandwidth, aws.Limiter = own, nil
		}
		cfg, err := aws.Config(ctx)
		if err != nil {
			return nil, fmt.Errorf("reaching the destination of captured records: %w", err)
		}
		where = residency.Destination{Bucket: bucket, Account: capture.Destination.Account, Region: cfg.Region}
		o.Destination = upload.NewBucket(aws.Client(cfg), upload.Bucket{Name: bucket, Account: capture.Destination.Account, Unverified: !capture.Upload.Verify})
	}
	if err := p.MayGo(where); err != nil {
		return nil, fmt.Errorf("capture.destination: %w", err)
	}
	if o.Destination == nil {
		if o.Destination, err = upload.NewDirectory(where.Directory); err != nil {
			return nil, err
		}
	}
	o.options = upload.Options{
		Destination: o.Destination, Policy: p, Audit: o.Audit,
		Format: format.Options{
			Prefix: capture.Destination.Prefix, Fleet: capture.Format.Fleet, Device: device,
			Embed: capture.Format.EmbedBytes, JSON: capture.Format.Rows == "json", Variant: capture.Format.Variant,
		},
		KindsOf:     func(model string) []format.Kind { return kinds(capture.Format.KindsOf(model)) },
		Compression: upload.Compression(capture.Upload.Compression), ObjectBytes: int(capture.Upload.ObjectBytes), Parallel: capture.Upload.Parallel,
		Windows: windows, Log: log,
	}
	o.recipe = upload.Recipe{
		Residency: p.Options(), Format: o.options.Format, Base: strings.TrimSuffix(o.Destination.URL("key"), "key"),
		Kinds: kinds(capture.Format.Kinds), KindsOf: map[string][]format.Kind{},
		Compression: o.options.Compression, ObjectBytes: o.options.ObjectBytes,
	}
	for _, m := range capture.Format.Models {
		o.recipe.KindsOf[m.Model] = kinds(m.Kinds)
	}
	return o, nil
}

func kinds(names []string) (all []format.Kind) {
	for _, k := range names {
		all = append(all, format.Kind(k))
	}
	return all
}

// Process is a Preparer for Uploader: command is a process, of a program of that version, in
// which upload.Serve runs.
func (o *Outlet) Process(command func() *exec.Cmd, version string) *upload.Process {
	return &upload.Process{Command: command, Version: version, Recipe: o.recipe, Log: o.options.Log}
}

// Uploader sends what the source has on this way, prepared by p. Its Run must have ended
// before Close.
func (o *Outlet) Uploader(source upload.Source, p upload.Preparer) *upload.Uploader {
	options := o.options
	options.Source, options.Preparer = source, p
	return upload.New(options)
}

// Close ends the use of the destination and of the audit log.
func (o *Outlet) Close() error { return errors.Join(o.Destination.Close(), o.Audit.Close()) }

// Test sends one record of a model, made up of ones, on this way: columns is how many its
// only input has. What was sent is returned after an error too.
func (o *Outlet) Test(ctx context.Context, model string, columns int) ([]upload.Sent, error) {
	ones := bytes.Repeat(binary.LittleEndian.AppendUint32(nil, math.Float32bits(1)), columns)
	now := time.Now()
	return upload.Test(ctx, o.options, format.Record{
		ID: "picket-test-" + rand.Text(), Model: model, Version: "test", Time: now,
		Inputs:  []format.Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{1, int64(columns)}, Data: ones}},
		Outputs: []format.Tensor{{Name: "output", DType: tensor.FP32, Shape: []int64{1, 1}, Data: bytes.Clone(ones[:4])}},
	})
}

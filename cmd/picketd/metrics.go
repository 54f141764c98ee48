package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cloudwatchapi "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/capture/outlet"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/drift"
	"github.com/picket-ml/picket/internal/metrics"
	"github.com/picket-ml/picket/internal/metrics/cloudwatch"
)

// newWatch looks at what models are asked, and shows all of it to next, which may be
// nil.
func newWatch(c config.Drift, next engine.Tap, log *slog.Logger) *drift.Watch {
	return drift.New(drift.Options{Sample: c.Sample, Window: c.Window, MinRows: uint64(c.MinRows), Next: next, Log: log})
}

// newPublisher is nil where no metrics are to be sent anywhere, or may be. Nobody is
// asked for anything yet. captures may be nil.
func newPublisher(ctx context.Context, c *config.Config, e *engine.Engine, watch *drift.Watch, captures *captures, log *slog.Logger) (*cloudwatch.Publisher, error) {
	w := c.CloudWatch
	if !w.Enabled && w.EMF == "" {
		return nil, nil
	}
	if !c.Capture.Residency.Metrics {
		log.Warn("no metrics are sent to CloudWatch or written for it: capture.residency.metrics is false")
		return nil, nil
	}
	policy, err := outlet.Policy(c)
	if err != nil {
		return nil, usageError{err}
	}
	sources := []metrics.Source{drift.NewSource(watch, e.List, policy.Histogram)}
	if captures != nil {
		sources = append(sources, &captureSource{captures: captures})
	}
	o := cloudwatch.Options{
		EMF: w.EMF, Namespace: w.Namespace, Fleet: w.Fleet, Device: w.Device, Period: w.Period, Timeout: w.Timeout,
		Dir: c.StateDir, Limit: int64(w.MaxBacklog), Sampler: metrics.NewSampler(e, sources...), Log: log,
	}
	if o.Device == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			return nil, usageError{fmt.Errorf("cloudwatch.device is empty, and the host has no name to send metrics under: %w", err)}
		}
		o.Device = name
	}
	if w.Enabled {
		reach := c.AWS
		reach.Endpoint = "" // S3's
		cfg, err := reach.Config(ctx)
		if err != nil {
			return nil, usageError{fmt.Errorf("sending metrics to CloudWatch: %w", err)}
		}
		o.Client = cloudwatchapi.NewFromConfig(cfg, func(o *cloudwatchapi.Options) {
			if w.Endpoint != "" {
				o.BaseEndpoint = aws.String(w.Endpoint)
			}
			o.RetryMaxAttempts = 1 // what fails waits on disk and is tried again
		})
		log.Info("metrics are sent to CloudWatch", "region", cfg.Region, "namespace", w.Namespace, "fleet", w.Fleet, "device", o.Device, "period", w.Period)
	}
	if w.EMF != "" {
		log.Info("metrics are written as log lines", "to", w.EMF, "period", w.Period)
	}
	return cloudwatch.New(o), nil
}

// captureSource gives how capturing fares.
type captureSource struct {
	captures *captures
	open     bool // whether there was a spool at the last sample
	before   captureCounts
}

// captureCounts are those of the spool and the tap that go up.
type captureCounts struct{ accepted, uploaded, dropped int64 }

// Sample implements metrics.Source. What happened before this process had the spool is
// in none of its samples.
func (s *captureSource) Sample(now time.Time) []metrics.Reading {
	select {
	case <-s.captures.ready:
	default:
		return nil
	}
	st, tap := s.captures.spool.Stats(), s.captures.tap.Stats()
	counts := captureCounts{
		accepted: st.Accepted, uploaded: st.Uploaded,
		// What the policy withholds is not lost: it was never to leave.
		dropped: st.Dropped.Quota + st.Dropped.Age + st.Dropped.Lost + st.Quarantined + st.Refused.Full + st.Refused.Busy + st.Refused.Disk +
			int64(tap.DroppedRing+tap.DroppedBytes+tap.DroppedClosed),
	}
	if !s.open {
		s.open, s.before = true, counts
	}
	age := 0.0
	if !st.Oldest.IsZero() {
		age = max(0, now.Sub(st.Oldest).Seconds())
	}
	one := func(m *metrics.Metric, v float64) metrics.Reading { return metrics.One(m, metrics.Labels{}, v) }
	readings := []metrics.Reading{
		one(metrics.CaptureAccepted, float64(counts.accepted-s.before.accepted)), one(metrics.CaptureUploaded, float64(counts.uploaded-s.before.uploaded)),
		one(metrics.CaptureDropped, float64(max(0, counts.dropped-s.before.dropped))), one(metrics.CaptureOnDisk, float64(st.OnDisk)),
		one(metrics.CaptureBytes, float64(st.Bytes)), one(metrics.CaptureAge, age),
	}
	s.before = counts
	return readings
}

// lastMetrics is how long the end of the daemon waits at most for the last metrics to
// be taken: what is not waits on disk.
const lastMetrics = 2 * time.Second

// closeMetrics sends the last sample, and may be called again.
func (d *daemon) closeMetrics() {
	if d.publisher == nil {
		return
	}
	left := min(max(time.Until(d.end), closing), lastMetrics)
	if d.cutOff {
		left = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel()
	if err := d.publisher.Shutdown(ctx); err != nil {
		d.log.Warn("the last metrics may be lost", "error", err)
	}
	d.publisher = nil
}

// collectors are what /metrics has besides what the servers know.
func (d *daemon) collectors() []prometheus.Collector {
	all := []prometheus.Collector{drift.NewCollector(d.watch, d.engine.List), d.gpus}
	if d.publisher != nil {
		all = append(all, d.publisher)
	}
	return all
}

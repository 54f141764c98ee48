package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/capture/outlet"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/internal/capture/upload"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/hw"
)

// outgoing is the consumer that sends captured records where the configuration says.
type outgoing struct {
	outlet   *outlet.Outlet
	preparer *upload.Process
	uploader atomic.Pointer[upload.Uploader] // nil until the spool is there
}

// prepareObjects is the hidden command with which the daemon starts the process that makes
// objects of captured records.
const prepareObjects = "prepare-objects"

// preparing is that process, which is of this very program, also where another one was
// installed in its place.
func preparing() *exec.Cmd {
	c := exec.Command(thisProgram(), prepareObjects)
	c.Args[0], c.Stderr, c.SysProcAttr = os.Args[0], os.Stderr, apart()
	return c
}

// runPreparing is what that process does. It gives way to whoever wants a processor, takes one
// at most, and is the first to go where memory is short: records wait.
func runPreparing(in io.Reader, out io.Writer) error {
	// Who stops the daemon stops it by closing its input.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	runtime.GOMAXPROCS(1)
	// What is alive is little, as a rule, and what is not much: rounds of the collector are saved
	// that memory allows.
	debug.SetGCPercent(400)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(256 << 20)
	}
	return upload.Serve(in, out, version, errors.Join(hw.GiveWay(os.Getpid()), goFirst()))
}

// newOutgoing checks what the configuration says of the way out of the host. It is nil
// where records stay: nothing says where they should go. A configuration of the old agent
// is no reason not to serve.
func newOutgoing(ctx context.Context, c *config.Config, log *slog.Logger) (*outgoing, error) {
	policy, err := outlet.Policy(c)
	leaves := c.Capture.Enabled && c.Capture.Destination.Configured()
	var o *outlet.Outlet
	if err == nil && leaves {
		o, err = outlet.Open(ctx, c, policy, log)
	}
	if err != nil && c.Legacy != nil {
		log.Error("captured records stay on this host: the configuration does not say rightly where they go", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, usageError{err}
	}
	if !leaves {
		return nil, nil
	}
	if !policy.AnySamples() {
		log.Info("the residency policy lets no captured request leave: they are withheld and counted", "policy", policy.Digest())
	}
	log.Info("captured records leave", "to", o.Destination.URL(""), "policy", policy.Digest(), "policy_version", policy.Version(), "audit", outlet.AuditDir(c))
	return &outgoing{outlet: o, preparer: o.Process(preparing, version)}, nil
}

// Consume implements consumer.
func (o *outgoing) Consume(ctx context.Context, s *spool.Spool) error {
	u := o.outlet.Uploader(s, o.preparer)
	o.uploader.Store(u)
	return errors.Join(u.Run(ctx), o.preparer.Close())
}

// consumer is o, nil if there is none.
func (o *outgoing) consumer() consumer {
	if o == nil {
		return nil
	}
	return o
}

// close ends the use of the destination, after Consume has returned.
func (o *outgoing) close(log *slog.Logger) {
	if o == nil {
		return
	}
	if err := o.outlet.Close(); err != nil {
		log.Warn("leaving the destination of captured records", "error", err)
	}
}

// checkPolicy holds the residency policy to the models that are loaded: what it says of
// columns and tensors that a model does not have is a mistake, which would keep every
// record here.
func (d *daemon) checkPolicy() error {
	if d.outgoing == nil {
		return nil
	}
	var mistakes []error
	for _, m := range d.engine.List() {
		s, err := d.engine.Acquire(m.Name)
		if err != nil {
			continue // it was unloaded meanwhile
		}
		signature := s.Signature()
		if err := d.outgoing.outlet.Policy.CheckModel(m.Name, specsOf(signature.Inputs), specsOf(signature.Outputs)); err != nil {
			mistakes = append(mistakes, fmt.Errorf("capture.residency: %w", err))
		}
		s.Release()
	}
	if err := errors.Join(mistakes...); err != nil {
		return usageError{err}
	}
	return nil
}

func specsOf(all []engine.TensorSpec) []residency.TensorSpec {
	specs := make([]residency.TensorSpec, len(all))
	for i, s := range all {
		specs[i] = residency.TensorSpec{Name: s.Name, Dims: s.Dims}
	}
	return specs
}

func uploadDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picket_upload_"+name, help, labels, nil)
}

var (
	uploadObjects  = uploadDesc("objects_total", "Objects that the destination took.")
	uploadBytes    = uploadDesc("bytes_total", "Their bytes.")
	uploadContent  = uploadDesc("content_bytes_total", "Their bytes before compression.")
	uploadRecords  = uploadDesc("records_total", "Captured records in them; one that is written in two formats counts twice.")
	uploadKnown    = uploadDesc("known_objects_total", "Objects that had arrived before the last start, which was too early to know.")
	uploadWithheld = uploadDesc("withheld_records_total", "Captured records that the residency policy kept here.")
	uploadDamaged  = uploadDesc("damaged_ranges_total", "Parts of the spool that could not be read.")
	uploadFailures = uploadDesc("failures_total", "Attempts that failed, by reason.", "reason")
	uploadState    = uploadDesc("state", "What the uploader is doing: 1 for one of the states.", "state")
	uploadSince    = uploadDesc("state_seconds", "For how long it has been doing that.")
	uploadLast     = uploadDesc("last_success_timestamp_seconds", "When the destination took the last object; 0 for never.")
)

// Describe implements prometheus.Collector.
func (o *outgoing) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		uploadObjects, uploadBytes, uploadContent, uploadRecords, uploadKnown, uploadWithheld, uploadDamaged, uploadFailures, uploadState, uploadSince, uploadLast,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (o *outgoing) Collect(to chan<- prometheus.Metric) {
	u := o.uploader.Load()
	if u == nil {
		return // another process has the spool
	}
	s := u.Stats()
	metric := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for _, c := range []struct {
		desc *prometheus.Desc
		n    uint64
	}{
		{uploadObjects, s.Objects}, {uploadBytes, s.Bytes}, {uploadContent, s.Uncompressed}, {uploadRecords, s.Records}, {uploadKnown, s.Known},
		{uploadWithheld, s.Withheld}, {uploadDamaged, s.Damaged},
	} {
		metric(c.desc, prometheus.CounterValue, float64(c.n))
	}
	for _, reason := range upload.Reasons {
		metric(uploadFailures, prometheus.CounterValue, float64(s.Failures[reason]), reason)
	}
	for _, phase := range upload.Phases {
		is := 0.0
		if phase == s.Phase {
			is = 1
		}
		metric(uploadState, prometheus.GaugeValue, is, string(phase))
	}
	metric(uploadSince, prometheus.GaugeValue, max(time.Since(s.Since), 0).Seconds())
	last := 0.0
	if !s.Last.IsZero() {
		last = float64(s.Last.UnixNano()) / 1e9
	}
	metric(uploadLast, prometheus.GaugeValue, last)
}

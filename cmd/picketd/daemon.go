package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/server/agent"
	"github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/server/oip"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/internal/trace"
)

// daemon is everything the process owns.
type daemon struct {
	config  *config.Config
	log     *slog.Logger
	host    atomic.Pointer[hw.Host] // replaced once the instance is known
	source  *store.Store
	engine  *engine.Engine
	agent   *agent.Server
	lane    *lane.Server
	oip     *oip.Server
	control *oip.Server // of the operator's socket
	gates   local.Gates
	open    []listening
	serving sync.WaitGroup
	failed  chan error    // what ended a listener that nobody closed
	tracer  *trace.Tracer // nil while tracing is off
	end     time.Time     // when what is left is given up, once the daemon is stopping
	cutOff  bool          // nothing is waited for any more
}

// server is one protocol.
type server interface {
	Shutdown(context.Context) error
	Stop()
}

// runDaemon serves until a signal asks it to stop.
func runDaemon(c *config.Config, o hw.Options, logTo io.Writer) error {
	started := time.Now()
	// A log that nobody reads any more is no reason to end.
	signal.Ignore(syscall.SIGPIPE)
	signals, stopListening := stopWishes()
	defer stopListening()

	log, endLog := newLogger(c.Log, logTo)
	defer endLog()
	d := &daemon{config: c, log: log, failed: make(chan error, 1)}
	for _, warning := range c.Warnings {
		d.log.Warn("the configuration has a flaw", "warning", warning)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	host := hw.Detect(ctx, o)
	d.host.Store(host)
	limitHeap(host.Memory.Cgroup, d.log)
	d.sayWhoIsTrusted()
	decisions, closeState := openDecisions(c.StateDir, d.log)
	defer closeState()
	defer d.closeSource()
	var err error
	if d.tracer, err = newTracer(c.Tracing, d.log); err != nil {
		return err
	}
	defer d.closeTracer()
	if err := d.build(host, decisions, started); err != nil {
		return err
	}
	defer d.closeSockets()
	if err := d.listen(); err != nil {
		return err
	}
	go d.findInstance(ctx, o)

	// Clients that connect now wait until the models are there.
	loaded := make(chan int, 1)
	go func() { loaded <- d.loadModels(ctx) }()
	select {
	case n := <-loaded:
		d.serve()
		d.log.Info("ready", "version", version, "models", n, "sockets", d.addresses(),
			"took", time.Since(started).Round(10*time.Microsecond))
		notify(d.log, fmt.Sprintf("READY=1\nSTATUS=Serving; %d of %d configured models were loaded.", n, len(c.Models)))
		stopWatchdog := startWatchdog(d.log)
		defer stopWatchdog()
	case sig := <-signals:
		d.log.Info("stopping before the models were loaded", "signal", sig.String())
		notify(d.log, "STOPPING=1")
		cancel()
		d.stopServers()
		d.end = time.Now().Add(c.Shutdown.Grace)
		return d.closeEngine(d.end, signals)
	}

	select {
	case sig := <-signals:
		d.log.Info("stopping: calls under way are answered, new ones refused", "signal", sig.String(), "grace", c.Shutdown.Grace)
		notify(d.log, "STOPPING=1")
		return d.stop(signals)
	case err := <-d.failed:
		notify(d.log, "STOPPING=1")
		d.log.Error("stopping: a socket failed", "error", err)
		return errors.Join(err, d.stop(signals))
	}
}

// build makes the engine and the servers.
func (d *daemon) build(host *hw.Host, decisions engine.Decisions, started time.Time) error {
	var named []string
	for _, m := range d.config.Models {
		named = append(named, m.Path) // the name of a package among them does no harm
	}
	trust, err := openTrust(d.config.Trust)
	if err != nil {
		return usageError{err}
	}
	d.source, err = store.New(store.Options{
		Roots: d.config.ModelRoots, Also: named, Packages: d.config.Packages, State: d.config.StateDir, Host: host,
		Trust: trust, Unsigned: d.config.Unsigned, Log: d.log,
	})
	if err != nil {
		return err
	}
	defaults := modelOptions(d.config.ModelDefaults)
	if defaults.Backend == "" {
		defaults.Backend = d.config.Backends.Force
	}
	d.engine, err = engine.New(engine.Options{
		Host: host, Backends: chooseBackends(d.config, d.log), Source: d.source, Log: d.log, Defaults: defaults,
		Decisions: decisions, Version: codeVersion(thisExecutable), Observer: observer(d.tracer),
	})
	if err != nil {
		return usageError{err} // a backend that does not exist, options out of range
	}
	for _, b := range d.engine.Backends() {
		if b.OK {
			d.log.Debug("backend is usable", "backend", b.Name)
		} else {
			d.log.Info("backend is not usable", "backend", b.Name, "reason", b.Reason)
		}
	}
	return d.buildServers(started)
}

func (d *daemon) hostJSON() []byte {
	data, err := json.Marshal(d.host.Load())
	if err != nil {
		d.log.Error("describing the host", "error", err)
		return nil
	}
	return data
}

func modelOptions(r config.Run) engine.ModelOptions {
	return engine.ModelOptions{
		Backend: r.Backend, ExpectedRows: r.ExpectedRows, Instances: r.Instances, Threads: r.Threads, MaxBatchRows: r.MaxBatchRows,
		BatchDelay: r.BatchDelay, MaxQueue: r.MaxQueue, Timeout: r.Timeout, Pin: r.Pin,
	}
}

// loadModels loads the configured models and returns how many there are. The
// engine logs those that fail.
func (d *daemon) loadModels(ctx context.Context) int {
	n := 0
	for _, m := range d.config.Models {
		if ctx.Err() != nil {
			break
		}
		if _, err := d.engine.Load(ctx, m.Name, m.Path, modelOptions(m.Run)); err == nil {
			n++
		}
	}
	return n
}

func (d *daemon) serve() {
	for _, l := range d.open {
		d.serving.Go(func() {
			if err := l.serve(); err != nil {
				select {
				case d.failed <- err:
				default: // the first ends the daemon
				}
			}
		})
	}
}

// findInstance asks the metadata service, which may take long to not answer.
func (d *daemon) findInstance(ctx context.Context, o hw.Options) {
	i := hw.DetectInstance(ctx, o)
	d.host.Store(d.host.Load().WithInstance(i))
	if i.Type == "" {
		d.log.Info("the instance type is not known", "reason", i.Reason)
		return
	}
	d.log.Info("the instance is known", "type", i.Type, "outposts", i.Outposts, "source", i.Source)
}

// stop refuses what is new, answers what is under way, and closes the models.
func (d *daemon) stop(signals <-chan os.Signal) error {
	d.end = time.Now().Add(d.config.Shutdown.Grace)
	ctx, cancel := context.WithDeadline(context.Background(), d.end)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- d.shutDown(ctx) }()
	var failed error
	select {
	case failed = <-drained:
	case sig := <-signals:
		return d.stopAtOnce(sig)
	}
	d.serving.Wait()
	err := errors.Join(failed, d.closeEngine(d.end, signals))
	if err == nil {
		d.log.Info("stopped")
	}
	return err
}

// closing is what models get at least to close once no call is under way.
const closing = time.Second

func (d *daemon) closeEngine(end time.Time, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), max(time.Until(end), closing))
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- d.engine.Close(ctx) }()
	select {
	case err := <-closed:
		return err
	case sig := <-signals:
		return d.stopAtOnce(sig)
	}
}

func (d *daemon) stopAtOnce(sig os.Signal) error {
	// Not waited for: whoever signals twice does not want to wait. The end of
	// the process closes what is left.
	d.cutOff = true
	go d.stopServers()
	return fmt.Errorf("stopped at once by a second signal (%v): calls under way were cut off", sig)
}

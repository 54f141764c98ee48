package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/drift"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/metrics/cloudwatch"
	"github.com/picket-ml/picket/internal/server/agent"
	"github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/server/oip"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/internal/trace"
)

// daemon is everything the process owns.
type daemon struct {
	// resolve reads the configuration.
	resolve func() (*config.Config, error)
	// config is the one in force; a reload replaces it.
	config     atomic.Pointer[config.Config]
	executable string          // what a restart starts
	ctx        context.Context // ends with the daemon
	log        *slog.Logger
	logged     *logSettings
	host       atomic.Pointer[hw.Host] // replaced once the instance is known
	bound      bool                    // it keeps to some CPUs of the host's
	store      *store.Store
	engine     *engine.Engine
	declared   *declared
	fleet      *device.Agent // nil where the daemon is of none
	handedOver atomic.Bool   // a new process is the daemon
	agent      *agent.Server
	lane       *lane.Server
	oip        *oip.Server
	control    *oip.Server                // of the operator's socket
	secured    atomic.Pointer[tls.Config] // how TCP is encrypted; nil if it is not
	gates      local.Gates
	inherited  []*inherited // sockets that nobody has taken yet
	listening  []*listening
	serving    sync.WaitGroup
	failed     chan error    // what ended a listener that nobody closed
	changing   chan struct{} // a token for whoever reloads or restarts
	tracer     *trace.Tracer // nil while tracing is off
	captures   *captures     // nil where nothing is captured
	outgoing   *outgoing     // nil where what is captured stays
	watch      *drift.Watch
	gpus       *gpus
	publisher  *cloudwatch.Publisher // nil while no metrics are sent, and once the last were
	end        time.Time             // when what is left is given up, once the daemon is stopping
	cutOff     bool                  // nothing is waited for any more
	ends       []func()              // what closes the parts, in the order in which they were opened
}

// server is one protocol.
type server interface {
	Yield(context.Context)
	Shutdown(context.Context) error
	Stop()
}

// runDaemon serves until a signal asks it to stop, or a new process has taken its
// place. resolve reads the configuration: at the start, and for each reload.
func runDaemon(resolve func() (*config.Config, error), logTo io.Writer, by starter) (err error) {
	started := time.Now()
	// A log that nobody reads any more is no reason to end.
	signal.Ignore(syscall.SIGPIPE)
	stop, stopListening := stopWishes(by)
	defer stopListening()
	reload, restart, ignoreOthers := otherWishes()
	defer ignoreOthers()

	before, handed, err := findPredecessor()
	if err != nil {
		return err
	}
	if before != nil {
		defer func() {
			if err != nil {
				before.fail(err)
			}
		}()
	} else if handed, err = activated(); err != nil {
		return err
	}
	d, o, err := configure(resolve, handed, logTo)
	if err != nil {
		return err
	}
	defer d.logged.end()
	var cancel context.CancelFunc
	d.ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	defer d.closeParts()
	if err := d.open(o, started); err != nil {
		return err
	}
	go d.findInstance(d.ctx, o)

	// Clients that connect now wait until the models are there.
	begun := make(chan error, 1)
	go func() { begun <- d.begin(before) }()
	select {
	case err := <-begun:
		if err != nil {
			return errors.Join(err, d.stop(stop, true))
		}
	case sig := <-stop:
		d.log.Info("stopping before the models were loaded", "signal", sig.String())
		notify(d.log, systemd.SdNotifyStopping)
		cancel()
		d.stopServers()
		d.end = time.Now().Add(d.config.Load().Shutdown.Grace)
		return d.closeEngine(d.end, stop)
	}
	loaded, all := d.declared.count()
	d.log.Info("ready", "version", version, "models", len(d.engine.List()), "declared", all, "missing", all-loaded, "sockets", d.addresses(),
		"took", time.Since(started).Round(10*time.Microsecond))
	notify(d.log, d.status())
	if by.ready != nil {
		by.ready()
	}
	stopWatchdog := startWatchdog(d.log)
	defer stopWatchdog()
	go d.declared.keepTrying(d.ctx)
	var following sync.WaitGroup
	following.Go(func() { d.runFleet(d.ctx) })
	following.Go(func() { d.gpus.run(d.ctx, d.engine, d.declared) })
	defer following.Wait() // it keeps what it has found out
	defer cancel()
	return d.run(cancel, stopWatchdog, stop, reload, restart)
}

// configure makes a daemon that has its configuration and its log, and nothing else yet. handed are the sockets that it was given.
func configure(resolve func() (*config.Config, error), handed []*inherited, logTo io.Writer) (*daemon, hw.Options, error) {
	d := &daemon{inherited: slices.Clone(handed), failed: make(chan error, 1), changing: make(chan struct{}, 1)}
	d.resolve = func() (*config.Config, error) {
		c, err := resolve()
		if err == nil {
			claim(c, handed)
			err = adapt(c)
		}
		return c, err
	}
	c, err := d.resolve()
	if err != nil {
		return nil, hw.Options{}, usageError{err}
	}
	o, err := hostOptions(c)
	if err != nil {
		return nil, hw.Options{}, usageError{err}
	}
	if d.executable, err = ownExecutable(); err != nil {
		return nil, hw.Options{}, fmt.Errorf("finding the daemon's own executable: %w", err)
	}
	d.config.Store(c)
	d.log, d.logged = newLogger(c.Log, logTo)
	for _, warning := range c.Warnings {
		d.log.Warn("the configuration has a flaw", "warning", warning)
	}
	return d, o, nil
}

// open opens all parts of the daemon, its sockets last. What is open when it fails is for closeParts to close.
func (d *daemon) open(o hw.Options, started time.Time) error {
	c := d.config.Load()
	host := hw.Detect(d.ctx, o)
	d.host.Store(host)
	if err := d.keepCores(c.Cores, host); err != nil {
		return err
	}
	limitHeap(host.Memory.Cgroup, d.log)
	d.sayWhoIsTrusted()
	decisions, closeState := openDecisions(c.StateDir, d.log)
	d.atEnd(closeState)
	d.atEnd(d.closeStore)
	var err error
	if d.tracer, err = newTracer(c.Tracing, d.log); err != nil {
		return err
	}
	d.atEnd(d.closeTracer)
	if d.outgoing, err = newOutgoing(d.ctx, c, d.log); err != nil {
		return err
	}
	d.atEnd(func() { d.outgoing.close(d.log) })
	if d.captures, err = newCaptures(c, d.log, d.outgoing.consumer()); err != nil {
		return err
	}
	d.atEnd(d.captures.close)
	d.atEnd(d.closeMetrics)
	if err := d.build(host, decisions, started); err != nil {
		return err
	}
	d.atEnd(d.closeSockets)
	return d.listen()
}

// atEnd has do done when the daemon ends, before what was asked for earlier.
func (d *daemon) atEnd(do func()) { d.ends = append(d.ends, do) }

// closeParts does what atEnd was asked for.
func (d *daemon) closeParts() {
	for _, do := range slices.Backward(d.ends) {
		do()
	}
}

// begin loads the models and serves. In a new process it returns when the old one has
// left its place to it, and fails where it will not.
func (d *daemon) begin(before *predecessor) error {
	d.declared.start(d.ctx)
	if d.fleet != nil {
		d.fleet.Start(d.ctx)
	}
	if err := d.checkPolicy(); err != nil {
		return err
	}
	if before == nil {
		d.serve()
		return nil
	}
	if err := before.mirror(d.ctx, d, before.models); err != nil {
		return err
	}
	d.serve()
	if err := before.follow(d.ctx, d); err != nil {
		return err
	}
	d.ownSockets()
	return nil
}

// status is what the service manager is told of a daemon that serves.
func (d *daemon) status() string {
	loaded, all := d.declared.count()
	return fmt.Sprintf("%s\nSTATUS=Serving; %d of %d configured models are loaded.", systemd.SdNotifyReady, loaded, all)
}

// run does what signals ask for, until the daemon ends. cancel ends what is done beside
// serving.
func (d *daemon) run(cancel, stopWatchdog func(), stop, reload, restart <-chan os.Signal) error {
	took := make(chan *successor)
	var restarting sync.WaitGroup
	ending := func() {
		notify(d.log, systemd.SdNotifyStopping)
		cancel()
		restarting.Wait() // a new process must not be left
	}
	for {
		select {
		case sig := <-stop:
			d.log.Info("stopping: calls under way are answered, new ones refused", "signal", sig.String(), "grace", d.config.Load().Shutdown.Grace)
			ending()
			return d.stop(stop, false)
		case err := <-d.failed:
			d.log.Error("stopping: a socket failed", "error", err)
			ending()
			return errors.Join(err, d.stop(stop, false))
		case <-reload:
			go func() { _, _ = d.reload() }() // it has logged what there is to say
		case <-restart:
			restarting.Go(func() { d.tryRestart(took) })
		case next := <-took:
			if err := d.handOver(next); err != nil {
				d.log.Error("restarting: the new process cannot take over, this one serves on", "error", err)
				<-d.changing
				continue
			}
			stopWatchdog()
			d.handedOver.Store(true)
			cancel()
			return d.stop(stop, true)
		}
	}
}

// tryRestart starts a new process, and gives it to took once it serves. The token that
// it holds then is for the receiver to give back.
func (d *daemon) tryRestart(took chan<- *successor) {
	select {
	case d.changing <- struct{}{}:
	default:
		d.log.Warn("a restart was asked for while a reload or a restart is under way: it is left out")
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.config.Load().Restart.Timeout)
	defer cancel()
	next, err := d.restart(ctx)
	if err == nil {
		select {
		case took <- next:
			return
		case <-d.ctx.Done():
			next.end()
			err = d.ctx.Err()
		}
	}
	<-d.changing
	d.log.Error("restarting: the new process did not get to serve, this one serves on", "error", err)
}

// handOver makes the new process the daemon. After an error it is gone, and this one
// still is.
func (d *daemon) handOver(next *successor) error {
	pid := next.cmd.Process.Pid
	d.share(true)
	// Before the new process says that it is ready: nobody listens to others than the
	// main process.
	notify(d.log, fmt.Sprintf("MAINPID=%d", pid))
	if err := next.takeOver(); err != nil {
		d.share(false)
		notify(d.log, fmt.Sprintf("MAINPID=%d", os.Getpid()))
		next.end()
		return err
	}
	d.log.Info("a new process has taken over: calls under way are answered, and clients told to go there", "pid", pid)
	return nil
}

// share says whether the files of the sockets are another process's, too, and so not this one's to remove.
func (d *daemon) share(shared bool) {
	for _, l := range d.listening {
		if l.socket != nil {
			l.socket.shared = shared
		}
	}
}

// build makes the engine and the servers.
func (d *daemon) build(host *hw.Host, decisions engine.Decisions, started time.Time) error {
	c := d.config.Load()
	trust, err := openTrust(c.Trust)
	if err != nil {
		return usageError{err}
	}
	d.store, err = store.New(store.Options{
		Roots: c.ModelRoots, Also: pathsOf(c.Models), Packages: c.Packages, State: c.StateDir, Host: host,
		Trust: trust, Unsigned: c.Unsigned, Log: d.log,
	})
	if err != nil {
		return err
	}
	d.gpus = newGPUs(c.GPU, host, d.log)
	d.watch = newWatch(c.Drift, d.captures.engineTap(), d.log)
	d.engine, err = engine.New(engine.Options{
		Host: host, Backends: chooseBackends(c, d.gpus.devices, d.log), Source: d.store, Log: d.log, Defaults: defaultsOf(c),
		Decisions: decisions, Version: codeVersion(thisExecutable), Observer: observer(d.tracer), Tap: d.watch,
	})
	if err != nil {
		return usageError{err} // a backend that does not exist, options out of range
	}
	if d.publisher, err = newPublisher(d.ctx, c, d.engine, d.watch, d.captures, d.log); err != nil {
		return err
	}
	if d.publisher != nil {
		d.publisher.Start()
	}
	for _, b := range d.engine.Backends() {
		if b.OK {
			d.log.Debug("backend is usable", "backend", b.Name)
		} else {
			d.log.Info("backend is not usable", "backend", b.Name, "reason", b.Reason)
		}
	}
	d.declared = newDeclared(d.engine, d.log, d.store.Locate, c.Models)
	if d.fleet, err = d.openFleet(d.ctx); err != nil {
		return err
	}
	return d.buildServers(started)
}

// defaultsOf are the options of models that say nothing else.
func defaultsOf(c *config.Config) engine.ModelOptions {
	o := modelOptions(c.ModelDefaults)
	if o.Backend == "" {
		o.Backend = c.Backends.Force
	}
	return o
}

// pathsOf are the folders of the models.
func pathsOf(models []config.Model) (paths []string) {
	for _, m := range models {
		paths = append(paths, m.Path)
	}
	return paths
}

func (d *daemon) hostJSON() []byte {
	data, err := json.Marshal(d.host.Load())
	if err != nil {
		d.log.Error("describing the host", "error", err)
		return nil
	}
	return data
}

// priorities are what the configuration allows.
var priorities = map[string]engine.Priority{"high": engine.High, "normal": engine.Normal, "low": engine.Low}

func modelOptions(r config.Run) engine.ModelOptions {
	return engine.ModelOptions{
		Backend: r.Backend, ExpectedRows: r.ExpectedRows, Instances: r.Instances, Threads: r.Threads, MaxBatchRows: r.MaxBatchRows,
		BatchDelay: r.BatchDelay, MaxQueue: r.MaxQueue, Timeout: r.Timeout, Pin: r.Pin, Explain: r.Explain, Priority: priorities[r.Priority], Cores: r.Cores,
		Provider: r.Provider, GPUs: r.GPUs,
	}
}

func (d *daemon) serve() {
	for _, l := range d.listening {
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

// stop refuses what is new, answers what is under way, and closes the models. Where the
// sockets were left to another process, that one takes what is new.
func (d *daemon) stop(signals <-chan os.Signal, left bool) error {
	d.end = time.Now().Add(d.config.Load().Shutdown.Grace)
	ctx, cancel := context.WithDeadline(context.Background(), d.end)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- d.shutDown(ctx, left) }()
	var failed error
	select {
	case failed = <-drained:
	case sig := <-signals:
		return d.stopAtOnce(sig)
	}
	d.serving.Wait()
	d.captures.close()
	d.closeMetrics() // while the models are there to be asked
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

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/application"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/load"
	"github.com/picket-ml/picket/examples/fraud/site"
	"github.com/picket-ml/picket/examples/fraud/store"
)

// runFlags are those of all of it on one machine.
type runFlags struct {
	picketd, models, listen, user string
	dsn, endpoint, bucket         string
	rate                          float64
	customers, history            int
	seed                          uint64
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run", Short: "run all of it on this machine: the daemon, the servers, and a stream of simulated transactions", Args: cobra.NoArgs,
		Long: `Run all of it on this machine: picketd, the application server with its
database, the front-end with the analyst's pages, and a stream of simulated
transactions. It prints the address of the pages and ends with Ctrl-C, after
which nothing is left of it but what was put into databases and buckets that
were named. A daemon that ends by itself, or that you kill to see what becomes of
transactions then, is started again.

Without --bucket, a folder stands for the region, where captured records go.`,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context(), c.OutOrStdout()) },
	}
	c.Flags().StringVar(&f.picketd, "picketd", "bin/picketd", "the daemon")
	c.Flags().StringVar(&f.models, "models", "examples/fraud/model", "the folder with VERSION.json and VERSION/fraud.ubj")
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8443", "where the front-end listens, with TLS")
	c.Flags().StringVar(&f.user, "user", "analyst", "the name of the analyst; the password is made up and printed")
	c.Flags().StringVar(&f.dsn, "dsn", os.Getenv("FRAUD_DSN"), "PostgreSQL: postgres://user@host/database; default $FRAUD_DSN, without it SQLite")
	c.Flags().StringVar(&f.endpoint, "s3-endpoint", "", "http://HOST:PORT of an S3 store; credentials are where the AWS command line has them")
	c.Flags().StringVar(&f.bucket, "bucket", "", "the bucket for captured records")
	c.Flags().Float64Var(&f.rate, "rate", 120, "simulated transactions a second; 0 for none")
	c.Flags().IntVar(&f.customers, "customers", 1500, "how many customers the simulation has")
	c.Flags().IntVar(&f.history, "history", 30, "days of the simulation that are in an empty database before the first transaction, so that profiles are full")
	c.Flags().Uint64Var(&f.seed, "seed", 7, "of the simulation")
	return c
}

// run starts everything in order, and ends it in the other one, whatever happens.
func (f *runFlags) run(ctx context.Context, out io.Writer) (err error) {
	runtime.LockOSThread() // the daemon is told to end with the thread that started it; see startDaemon
	at, err := f.address()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "picket-fraud-")
	if err != nil {
		return fmt.Errorf("making a folder for the sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if longest := filepath.Join(dir, "application.sock"); len(longest) > mostOfSocket {
		return fmt.Errorf("making a folder for the sockets: the path %s is longer than the %d characters that a socket's may have; set TMPDIR to a shorter one", longest, mostOfSocket)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	began := time.Now()

	around := site.Options{Metrics: "oip.sock"}
	if err := f.region(dir, &around); err != nil {
		return err
	}
	daemon, err := startDaemon(f.picketd, dir, f.config(dir, &around))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.stop()) }()
	if err := daemon.wait(ctx); err != nil {
		return err
	}
	password, simulation, err := f.begin(ctx, dir)
	if err != nil {
		return err
	}
	key := rand.Text()
	if err := os.WriteFile(filepath.Join(dir, "keys"), []byte(key+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the client's key: %w", err)
	}

	log, err := os.OpenFile(filepath.Join(dir, "servers.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("making the servers' log: %w", err)
	}
	defer log.Close()
	var servers sync.WaitGroup
	defer servers.Wait()
	defer end()
	failed := make(chan error, 2)
	a, front := f.servers(dir, around, log)
	servers.Go(func() { failed <- a.run(ctx) })
	servers.Go(func() { failed <- front.run(ctx) })
	trusted, err := f.answers(ctx, "https://"+at, filepath.Join(dir, "frontend.pem"), failed)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
  Everything answers after %.1f s.

    pages      https://%s/
               (the certificate was made by this machine: tell the browser to go on;
               from another machine, ssh -L %s:%s HOST first)
    sign in    %s, %s
    daemon     process %d: look at it with
               bin/picket top --sockets %s
               or kill it: rules decide until it is started again
    logs       %s
               %s
    database   %s
    region     %s

`, time.Since(began).Seconds(), at, port(at), at, f.user, password, daemon.process.Process.Pid, dir, daemon.log, filepath.Join(dir, "servers.log"), f.database(), f.home())
	if f.rate > 0 {
		stream := load.Stream{URL: "https://" + at, Key: key, TLS: trusted, Rate: f.rate, Clients: 16}
		servers.Go(func() { _ = stream.Run(ctx, simulation) }) // it ends with ctx
	}
	fmt.Fprintf(out, "  %s. Ctrl-C ends it.\n", f.streaming())
	return watch(ctx, out, daemon, failed)
}

// watch keeps the daemon running, as a service manager would, until ctx ends or something does that it cannot help.
func watch(ctx context.Context, out io.Writer, daemon *daemonProcess, failed <-chan error) error {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case err := <-failed:
			return errors.Join(errors.New("a server has ended by itself"), err)
		case <-daemon.ended:
			if lived := time.Since(daemon.began); lived < shortLife {
				return errors.Join(fmt.Errorf("picketd has ended by itself, %v after it was started", lived.Round(time.Millisecond)), daemon.lastLines())
			}
			fmt.Fprintf(out, "\n  picketd, process %d, has ended (%v). Rules decide until it is back, which is in %v.\n", daemon.process.Process.Pid, daemon.process.ProcessState, restartAfter)
			select {
			case <-ctx.Done():
				continue
			case <-time.After(restartAfter):
			}
			if err := daemon.start(); err != nil {
				return err
			}
			if err := daemon.wait(ctx); ctx.Err() != nil {
				continue
			} else if err != nil {
				return err
			}
			fmt.Fprintf(out, "  picketd is back, process %d. The application has it load the model again.\n", daemon.process.Process.Pid)
		}
	}
	fmt.Fprintln(out, "\n  Ended; the folder is removed.")
	return nil
}

const (
	// restartAfter is how long a daemon that ended stays away: long enough to see what becomes of transactions meanwhile.
	restartAfter = 5 * time.Second
	// shortLife is how long one must have run to be started again: one that ends sooner would end again.
	shortLife = 5 * time.Second
)

// mostOfSocket is how long the path of a Unix socket may be.
const mostOfSocket = 107

// address is where the pages are, as this machine reaches them. It refuses one that is taken before anything is started.
func (f *runFlags) address() (string, error) {
	l, err := net.Listen("tcp", f.listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", fmt.Errorf("listening on %s: another program does already, perhaps an earlier `make run`; end that, or take another port: make run RUNFLAGS='--listen 127.0.0.1:9443'", f.listen)
	}
	if err != nil {
		return "", fmt.Errorf("listening on --listen %s: %w", f.listen, err)
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		panic("BUG: a listener for TCP has another address")
	}
	f.listen = at.String() // port 0 has become a port
	if at.IP.IsUnspecified() {
		at = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.Port}
	}
	return at.String(), l.Close()
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address) // it is a listener's
	return port
}

func (f *runFlags) database() string {
	if f.dsn != "" {
		return "PostgreSQL"
	}
	return "SQLite, in the same folder"
}

// home is where captured records go.
func (f *runFlags) home() string {
	if f.bucket != "" {
		return fmt.Sprintf("bucket %s at %s, over a line that the pages can cut", f.bucket, f.endpoint)
	}
	return "a folder, at the end of a line that the pages can cut"
}

func (f *runFlags) streaming() string {
	if f.rate <= 0 {
		return "No transactions are simulated"
	}
	return fmt.Sprintf("%.0f simulated transactions a second, of %d customers", f.rate, f.customers)
}

// region makes the other end of the line that can be cut: a bucket, or a folder.
func (f *runFlags) region(dir string, around *site.Options) error {
	if f.bucket == "" {
		// The daemon keeps the folder open that it is told of, wherever that is moved; so the one that comes and goes is in it.
		around.Folder = filepath.Join(dir, "line", "region")
		if err := os.MkdirAll(around.Folder, 0o700); err != nil {
			return fmt.Errorf("making a folder for the region: %w", err)
		}
		return nil
	}
	u, err := url.Parse(f.endpoint)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		return fmt.Errorf("reading --s3-endpoint: %q is no URL like http://127.0.0.1:7070; the line that can be cut takes one without TLS", f.endpoint)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	if err != nil {
		return fmt.Errorf("finding a port for the line to the region: %w", err)
	}
	around.Listen, around.Target = l.Addr().String(), u.Host
	return l.Close()
}

// config is picketd's. All that is captured leaves, as it is: these are no real customers.
func (f *runFlags) config(dir string, around *site.Options) string {
	to, aws := "directory: "+filepath.Dir(around.Folder), ""
	destination := to + ", prefix: region"
	if f.bucket != "" {
		to = "bucket: " + f.bucket
		destination, aws = to+", prefix: fraud", fmt.Sprintf("aws: {endpoint: \"http://%s\", path_style: true, region: us-east-1}\n", around.Listen)
	}
	return fmt.Sprintf(`unsigned: true
state_dir: %s
model_defaults:
  explain: true
  capture: {rate: 1}
capture:
  enabled: true
  max_bytes: 256MiB
  segment_bytes: 1MiB
  segment_age: 2s
  destination: {%s}
  residency:
    version: demonstration
    destinations: [{%s}]
    models:
      - {model: "*", samples: true, otherwise: allow, outputs: allow, truth: allow, ids: allow}
%s`, filepath.Join(dir, "state"), destination, to, aws)
}

// begin makes the one who may sign in, before the application opens the database, and the simulation: with a past in an empty database, after the last transaction in another.
func (f *runFlags) begin(ctx context.Context, dir string) (password string, simulation *generate.Simulation, err error) {
	password = strings.ToLower(rand.Text()[:16])
	one, err := application.NewAnalyst(f.user, password)
	if err != nil {
		return "", nil, err
	}
	s, err := store.Open(ctx, store.Options{DSN: f.dsn, Path: filepath.Join(dir, "fraud.db")})
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	last, _, err := s.Last(ctx)
	if err != nil {
		return "", nil, err
	}
	// A day of the simulation goes by in half a minute or so; it begins so long ago that it does not get beyond today soon.
	const day = 24 * time.Hour
	start := time.Now().UTC().Truncate(day).AddDate(0, 0, -60-f.history)
	if !last.IsZero() {
		start = last.Truncate(day).Add(day)
	}
	simulation = generate.New(generate.Options{Customers: f.customers, Seed: f.seed, Start: start})
	if last.IsZero() && f.rate > 0 {
		if err := importDays(ctx, s, simulation, f.history); err != nil {
			return "", nil, err
		}
	}
	return password, simulation, s.SetAnalyst(ctx, one)
}

// servers are the two, as their commands would start them.
func (f *runFlags) servers(dir string, around site.Options, log io.Writer) (*applicationFlags, *frontendFlags) {
	address := "unix:" + filepath.Join(dir, "application.sock")
	a := &applicationFlags{
		listen: address, state: dir, sockets: dir, models: f.models, keys: filepath.Join(dir, "keys"), scorer: "lane", control: "control.sock", outcomes: "oip.sock",
		anyTime: true, demo: true, site: around, log: log,
	}
	a.o = store.Options{DSN: f.dsn, Path: filepath.Join(dir, "fraud.db"), Server: "a", Queue: 4096}
	front := &frontendFlags{listen: f.listen, state: dir, log: log}
	front.o.Applications = []string{address}
	front.o.PerSecond = -1 // the simulation and the analyst have the same address
	return a, front
}

// answers returns what is needed to trust the front-end, once that answers for the application.
func (f *runFlags) answers(ctx context.Context, base, certificate string, failed <-chan error) (*tls.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		config, err := trust(certificate)
		if err == nil {
			if err = healthy(ctx, config, base); err == nil {
				return config, nil
			}
		}
		select {
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the front-end: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func healthy(ctx context.Context, config *tls.Config, base string) error {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+api.PathHealth, nil)
	if err != nil {
		return err
	}
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers with %s", answer.Status)
	}
	return nil
}

// daemonProcess is the daemon as a process of its own. All is for one goroutine.
type daemonProcess struct {
	path, config string
	dir          string
	log          string

	process *exec.Cmd     // the one that was started last
	began   time.Time     // when it was
	ended   chan struct{} // closed when it has ended
}

// startDaemon starts the daemon with its sockets, its state and its log in dir.
func startDaemon(path, dir, config string) (*daemonProcess, error) {
	d := &daemonProcess{path: path, config: filepath.Join(dir, "picketd.yaml"), dir: dir, log: filepath.Join(dir, "picketd.log")}
	if err := os.WriteFile(d.config, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("writing the daemon's configuration: %w", err)
	}
	return d, d.start()
}

// start starts it, for the first time or after it has ended. The calling goroutine must be locked to its thread, with which the daemon is told to end.
func (d *daemonProcess) start() error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("making the daemon's log: %w", err)
	}
	defer log.Close()
	process := exec.Command(d.path, "--config", d.config, "--sockets", d.dir)
	process.Stderr = log
	process.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C is for this program, which then stops the daemon
		Pdeathsig: syscall.SIGTERM, // and should it be killed, the daemon does not stay behind
	}
	if err := process.Start(); err != nil {
		return fmt.Errorf("starting the daemon: %w; `make build` makes it", err)
	}
	ended := make(chan struct{})
	d.process, d.began, d.ended = process, time.Now(), ended
	go func() {
		_ = process.Wait() // how it ended is in its state, and in its log
		close(ended)
	}()
	return nil
}

// wait returns when the daemon answers.
func (d *daemonProcess) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		if conn, err := net.Dial("unix", filepath.Join(d.dir, "control.sock")); err == nil {
			return conn.Close()
		}
		select {
		case <-d.ended:
			return errors.Join(errors.New("starting the daemon: it ended at once"), d.lastLines())
		case <-ctx.Done():
			return errors.Join(errors.New("starting the daemon: it does not answer"), d.lastLines())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// lastLines is the end of the daemon's log, as an error.
func (d *daemonProcess) lastLines() error {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return fmt.Errorf("reading the daemon's log: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return errors.New("the daemon's log ends with:\n  " + strings.Join(lines[max(0, len(lines)-8):], "\n  "))
}

// stop ends the daemon, gracefully if it will.
func (d *daemonProcess) stop() error {
	select {
	case <-d.ended:
		return nil
	default:
	}
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the daemon: %w", err)
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(20 * time.Second):
		_ = d.process.Process.Kill() // it was asked in vain
		<-d.ended
		return errors.New("stopping the daemon: it went on for 20 s and was killed")
	}
}

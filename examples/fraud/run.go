package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/application"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/store"
)

// runFlags are those of all of it on one machine.
type runFlags struct {
	picketd, models, listen, user string
	dsn, endpoint, bucket         string
	rate                          float64
	customers                     int
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run", Short: "run all of it on this machine: the daemon, the servers, and a stream of simulated transactions", Args: cobra.NoArgs,
		Long: `Run all of it on this machine: picketd, the application server with its
database, the front-end with the analyst's pages, and a stream of simulated
transactions. It prints the address of the pages and ends with Ctrl-C, after
which nothing is left of it but what was put into databases and buckets that
were named.

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
	c.Flags().IntVar(&f.customers, "customers", 3000, "how many customers the simulation has")
	return c
}

// run starts everything in order, and ends it in the other one, whatever happens.
func (f *runFlags) run(ctx context.Context, out io.Writer) (err error) {
	runtime.LockOSThread() // the daemon is told to end with the thread that started it; see startPicketd
	dir, err := os.MkdirTemp("", "picket-fraud-")
	if err != nil {
		return fmt.Errorf("making a folder for the sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, end := context.WithCancel(ctx)
	defer end()
	began := time.Now()

	home, err := f.line(dir)
	if err != nil {
		return err
	}
	defer home.Close()
	daemon, err := startPicketd(f.picketd, dir, f.config(dir, home))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.stop()) }()
	if err := daemon.wait(ctx); err != nil {
		return err
	}
	password, err := f.analyst(ctx, dir)
	if err != nil {
		return err
	}
	key := rand.Text()
	if err := os.WriteFile(filepath.Join(dir, "keys"), []byte(key+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the client's key: %w", err)
	}

	var servers sync.WaitGroup
	defer servers.Wait()
	defer end()
	failed := make(chan error, 2)
	a, front := f.servers(dir, newSurroundings(home, filepath.Join(dir, "oip.sock")))
	servers.Go(func() { failed <- a.run(ctx) })
	servers.Go(func() { failed <- front.run(ctx) })
	client, err := f.client(ctx, dir, failed)
	if err != nil {
		return errors.Join(err, daemon.lastLines())
	}
	defer client.CloseIdleConnections()
	fmt.Fprintf(out, `
  Everything answers after %.1f s.

    pages      https://%s/
               (the certificate was made by this machine: tell the browser to go on)
    sign in    %s, %s
    sockets    %s     (bin/picket list --sockets ..., bin/picket top)
    logs       %s, %s
    database   %s

`, time.Since(began).Seconds(), f.listen, f.user, password, dir, daemon.log, filepath.Join(dir, "servers.log"), f.database())
	stream := newStream(client, "https://"+f.listen, key)
	servers.Go(func() { stream.run(ctx, f.rate, f.customers) })
	fmt.Fprintf(out, "  %s. Ctrl-C ends it.\n", f.streaming())
	select {
	case <-ctx.Done():
		fmt.Fprintf(out, "\n  %s\n", stream.summary())
		return nil
	case err := <-failed:
		return errors.Join(errors.New("a server has ended by itself"), err)
	case <-daemon.ended:
		return errors.Join(errors.New("picketd has ended by itself"), daemon.lastLines())
	}
}

func (f *runFlags) database() string {
	if f.dsn != "" {
		return "PostgreSQL"
	}
	return "SQLite, in the same folder"
}

func (f *runFlags) streaming() string {
	if f.rate <= 0 {
		return "No transactions are simulated"
	}
	return fmt.Sprintf("%.0f simulated transactions a second, of %d customers", f.rate, f.customers)
}

// line is what lies between here and the region.
func (f *runFlags) line(dir string) (line, error) {
	if f.bucket == "" {
		return newFolderLine(filepath.Join(dir, "region"))
	}
	return newRelay(f.endpoint)
}

// config is picketd's. All that is captured leaves, as it is: these are no real customers.
func (f *runFlags) config(dir string, home line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "unsigned: true\nstate_dir: %s\nmodel_defaults:\n  explain: true\n  capture: {rate: 1}\n", filepath.Join(dir, "state"))
	b.WriteString("capture:\n  enabled: true\n  max_bytes: 256MiB\n  segment_bytes: 1MiB\n  segment_age: 2s\n")
	if f.bucket == "" {
		fmt.Fprintf(&b, "  destination: {directory: %s}\n", home.target())
	} else {
		fmt.Fprintf(&b, "  destination: {bucket: %s, prefix: fraud}\n", f.bucket)
	}
	b.WriteString("  residency:\n    version: demonstration\n    models:\n      - {model: \"*\", samples: true, otherwise: allow, outputs: allow, ids: allow}\n")
	if f.bucket == "" {
		fmt.Fprintf(&b, "    destinations: [{directory: %s}]\n", home.target())
	} else {
		fmt.Fprintf(&b, "    destinations: [{bucket: %s}]\naws: {endpoint: %q, path_style: true, region: us-east-1}\n", f.bucket, home.target())
	}
	return b.String()
}

// analyst makes the one who may sign in, before the application opens the database.
func (f *runFlags) analyst(ctx context.Context, dir string) (password string, err error) {
	password = strings.ToLower(rand.Text()[:16])
	one, err := application.NewAnalyst(f.user, password)
	if err != nil {
		return "", err
	}
	s, err := store.Open(ctx, store.Options{DSN: f.dsn, Path: filepath.Join(dir, "fraud.db")})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return password, s.SetAnalyst(ctx, one)
}

// servers are the two, as their commands would start them.
func (f *runFlags) servers(dir string, around application.Surroundings) (*applicationFlags, *frontendFlags) {
	address := "unix:" + filepath.Join(dir, "application.sock")
	a := &applicationFlags{
		listen: address, state: dir, sockets: dir, models: f.models, keys: filepath.Join(dir, "keys"), scorer: "lane", control: "control.sock",
		anyTime: true, demo: true, surroundings: around, log: filepath.Join(dir, "servers.log"),
	}
	a.o = store.Options{DSN: f.dsn, Path: filepath.Join(dir, "fraud.db"), Server: "a", Queue: 4096}
	front := &frontendFlags{listen: f.listen, state: dir, log: a.log}
	front.o.Applications = []string{address}
	front.o.PerSecond, front.o.Burst = -1, 400 // the simulation and the analyst have the same address
	return a, front
}

// client is for the front-end, once that answers for the application.
func (f *runFlags) client(ctx context.Context, dir string, failed <-chan error) (*http.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		c, err := trusting(filepath.Join(dir, "frontend.pem"))
		if err == nil {
			if err = healthy(ctx, c, "https://"+f.listen); err == nil {
				return c, nil
			}
			c.CloseIdleConnections()
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

// trusting is a client that knows one certificate.
func trusting(file string) (*http.Client, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: streamWorkers, ForceAttemptHTTP2: true,
	}}, nil
}

func healthy(ctx context.Context, c *http.Client, base string) error {
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

// streamWorkers is how many simulated terminals wait for an answer at a time.
const streamWorkers = 8

// stream sends simulated transactions, each customer's in their order.
type stream struct {
	client    *http.Client
	base, key string

	mu       sync.Mutex
	sent     int
	verdicts map[api.Verdict]int
	refused  int
	last     string // why
}

func newStream(client *http.Client, base, key string) *stream {
	return &stream{client: client, base: base, key: key, verdicts: map[api.Verdict]int{}}
}

// run sends until ctx ends. The simulation has a clock of its own, which goes as fast as its transactions are sent. It
// begins so long ago that profiles of 30 days fill up.
func (s *stream) run(ctx context.Context, rate float64, customers int) {
	if rate <= 0 {
		return
	}
	simulation := generate.New(generate.Options{Customers: customers, Seed: 7, Start: time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -60)})
	var lanes [streamWorkers]chan api.Transaction
	var workers sync.WaitGroup
	for i := range lanes {
		lanes[i] = make(chan api.Transaction, 64)
		workers.Go(func() {
			for t := range lanes[i] {
				s.send(ctx, &t)
			}
		})
	}
	defer workers.Wait()
	defer func() {
		for _, l := range lanes {
			close(l)
		}
	}()
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	due, owed := time.Now(), 0.0
	for run := rand.Text()[:6]; ; {
		for _, t := range slices.Clone(simulation.Day()) {
			for owed < 1 {
				select {
				case <-ctx.Done():
					return
				case now := <-every.C:
					// What could not be sent in time is not caught up with.
					owed, due = min(owed+rate*now.Sub(due).Seconds(), max(1, rate/10)), now
				}
			}
			owed--
			one := t.API(run + "-" + t.ID()) // so that another run on the same database is not a repetition
			select {
			case <-ctx.Done():
				return
			case lanes[one.Customer%streamWorkers] <- one:
			}
		}
	}
}

func (s *stream) send(ctx context.Context, t *api.Transaction) {
	d, err := s.ask(ctx, t)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.sent++
		s.verdicts[d.Verdict]++
	case ctx.Err() == nil:
		s.refused++
		s.last = err.Error()
	}
}

func (s *stream) ask(ctx context.Context, t *api.Transaction) (api.Decision, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return api.Decision{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+api.PathTransactions, bytes.NewReader(body))
	if err != nil {
		return api.Decision{}, err
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	r.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return api.Decision{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return api.Decision{}, err
	}
	if answer.StatusCode != http.StatusOK {
		return api.Decision{}, fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(text))
	}
	var d api.Decision
	return d, json.Unmarshal(text, &d)
}

func (s *stream) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%d simulated transactions were decided: %d approved, %d asked for a 2nd factor, %d denied; %d were not answered.",
		s.sent, s.verdicts[api.Approve], s.verdicts[api.Challenge], s.verdicts[api.Deny], s.refused)
	if s.refused > 0 {
		text += " The last one: " + s.last
	}
	return text
}

// picketd is the daemon as a process of its own.
type picketd struct {
	process *exec.Cmd
	dir     string
	log     string
	ended   chan struct{}
}

// startPicketd starts the daemon with its sockets, its state and its log in dir.
func startPicketd(path, dir, config string) (*picketd, error) {
	file := filepath.Join(dir, "picketd.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("writing the daemon's configuration: %w", err)
	}
	d := &picketd{dir: dir, log: filepath.Join(dir, "picketd.log"), ended: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the daemon's log: %w", err)
	}
	defer log.Close()
	d.process = exec.Command(path, "--config", file, "--sockets", dir)
	d.process.Stderr = log
	d.process.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C is for this program, which then stops the daemon
		Pdeathsig: syscall.SIGTERM, // and should it be killed, the daemon does not stay behind
	}
	if err := d.process.Start(); err != nil {
		return nil, fmt.Errorf("starting the daemon: %w; `make build` makes it", err)
	}
	go func() {
		_ = d.process.Wait() // how it ended is in its log
		close(d.ended)
	}()
	return d, nil
}

// wait returns when the daemon answers.
func (d *picketd) wait(ctx context.Context) error {
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
func (d *picketd) lastLines() error {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return fmt.Errorf("reading the daemon's log: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return errors.New("the daemon's log ends with:\n  " + strings.Join(lines[max(0, len(lines)-8):], "\n  "))
}

// stop ends the daemon, gracefully if it will.
func (d *picketd) stop() error {
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

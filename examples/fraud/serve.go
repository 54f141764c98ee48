package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/examples/fraud/application"
	"github.com/picket-ml/picket/examples/fraud/frontend"
	"github.com/picket-ml/picket/examples/fraud/scoring"
	"github.com/picket-ml/picket/examples/fraud/site"
	"github.com/picket-ml/picket/examples/fraud/store"
	"github.com/picket-ml/picket/examples/fraud/web"
)

// grace is how long requests under way may take when a server ends.
const grace = 10 * time.Second

// database are the flags that say where transactions are kept.
type database struct{ o store.Options }

func (d *database) flags(c *cobra.Command) {
	c.Flags().StringVar(&d.o.DSN, "dsn", os.Getenv("FRAUD_DSN"), "PostgreSQL: postgres://user@host/database; default $FRAUD_DSN, without it SQLite")
	c.Flags().StringVar(&d.o.Path, "sqlite", "", "SQLite's file; STATE/fraud.db if empty")
	c.Flags().StringVar(&d.o.Server, "name", "a", "the name of this application server among those that share the database")
}

func (d *database) open(ctx context.Context, state string) (*store.Store, error) {
	if d.o.Path == "" {
		d.o.Path = filepath.Join(state, "fraud.db")
	}
	return store.Open(ctx, d.o)
}

// applicationFlags are those of the application server.
type applicationFlags struct {
	database
	listen, state, sockets, models, version, rules, keys, scorer string
	control, outcomes, oip                                       string
	guard                                                        scoring.GuardOptions
	anyTime, demo                                                bool
	site                                                         site.Options
	log                                                          io.Writer // standard error if nil
}

func applicationCommand() *cobra.Command {
	var f applicationFlags
	c := &cobra.Command{
		Use: "application", Short: "run an application server", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	f.flags(c)
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8081", "where it listens: host:port, or unix:/path")
	c.Flags().StringVar(&f.state, "state", ".", "the folder for its files: SQLite's, and the secret for the 2nd factor")
	c.Flags().StringVar(&f.sockets, "sockets", "/run/picket", "the folder with the daemon's sockets")
	c.Flags().StringVar(&f.control, "control", "control.sock", "the socket over which models are loaded; empty if the operator loads them")
	c.Flags().StringVar(&f.outcomes, "outcomes", "", "the daemon's socket that is told what became of transactions, such as oip.sock: for a daemon that captures; empty for none")
	c.Flags().StringVar(&f.scorer, "protocol", "lane", "how scores are asked for: lane, ring (the lane in shared memory), agent or oip")
	c.Flags().StringVar(&f.oip, "oip", "", "with --protocol oip, who is asked: host:port or unix:/path; the daemon's oip.sock if empty. For another server, with --control ''")
	c.Flags().StringVar(&f.models, "models", "examples/fraud/model", "the folder with VERSION.json and VERSION/fraud.ubj; the daemon reads it too")
	c.Flags().StringVar(&f.version, "model", "", "the version to begin with; the newest if empty")
	c.Flags().StringVar(&f.rules, "rules", "", "a file with the rules that decide without a score; built-in ones if empty")
	c.Flags().StringVar(&f.keys, "client-keys", "", "a file with the keys of clients, one a line")
	c.Flags().DurationVar(&f.guard.Budget, "budget", 20*time.Millisecond, "how long a score may take before rules decide")
	c.Flags().IntVar(&f.guard.Outstanding, "outstanding", 256, "how many scores may be asked for at once")
	c.Flags().IntVar(&f.o.Queue, "queue", 4096, "how many transactions may wait to be stored")
	c.Flags().StringVar(&f.site.Listen, "wan-listen", "", "host:port: where a WAN begins that analysts can cut, as the uploader's endpoint; for trying it out")
	c.Flags().StringVar(&f.site.Target, "wan-target", "", "host:port: where that WAN ends")
	c.Flags().StringVar(&f.site.Metrics, "metrics", "oip.sock", "the daemon's socket with /metrics, for the state of capture; empty for none")
	c.Flags().BoolVar(&f.anyTime, "any-time", false, "accept transactions of any age, for simulations")
	c.Flags().BoolVar(&f.demo, "demo", false, "show what a customer's authenticator would, and samples: never with real customers")
	return c
}

func (f *applicationFlags) run(ctx context.Context) (err error) {
	log := logger(f.log).With("server", f.o.Server)
	o := application.Options{Version: f.version, Guard: f.guard, AnyTime: f.anyTime, Demo: f.demo, ProgramVersion: version, Log: log}
	if o.Models, err = scoring.ReadModels(f.models); err != nil {
		return err
	}
	text := scoring.DefaultRules()
	if f.rules != "" {
		if text, err = os.ReadFile(f.rules); err != nil {
			return fmt.Errorf("reading rules: %w", err)
		}
	}
	if o.Rules, err = scoring.ParseRules(text); err != nil {
		return err
	}
	if f.keys != "" {
		keys, err := os.ReadFile(f.keys)
		if err != nil {
			return fmt.Errorf("reading the clients' keys: %w", err)
		}
		o.Keys = strings.Fields(string(keys))
	}
	if o.Secret, err = secret(filepath.Join(f.state, "factor.key")); err != nil {
		return err
	}
	if o.Store, err = f.open(ctx, f.state); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Store.Close()) }()
	if o.Scorer, err = f.dial(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Scorer.Close()) }()
	if f.control != "" {
		if o.Loader, err = scoring.NewLoader(socketIn(f.sockets, f.control)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.Loader.Close()) }()
	}
	if f.site.Metrics != "" {
		f.site.Metrics = socketIn(f.sockets, f.site.Metrics)
	}
	if f.outcomes != "" {
		teller := scoring.NewTeller(socketIn(f.sockets, f.outcomes))
		defer teller.Close()
		o.Teller = teller
	}
	around, err := site.New(f.site)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, around.Close()) }()
	o.Surroundings = around
	s, err := application.New(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	listener, err := listen(f.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	server.RegisterOnShutdown(s.CloseStreams)
	log.Info("the application serves", "address", f.listen, "database", o.Store.Name(), "protocol", f.scorer)
	return serve(ctx, server, func() error { return server.Serve(listener) })
}

func logger(to io.Writer) *slog.Logger {
	if to == nil {
		to = os.Stderr
	}
	return slog.New(slog.NewJSONHandler(to, nil))
}

func (f *applicationFlags) dial() (scoring.Scorer, error) {
	switch f.scorer {
	case "lane", "ring":
		return scoring.OverLane(socketIn(f.sockets, "lane.sock"), f.scorer == "ring"), nil
	case "agent":
		return scoring.OverAgent(socketIn(f.sockets, "agent.sock"))
	case "oip":
		return scoring.OverOIP(cmp.Or(f.oip, "unix:"+socketIn(f.sockets, "oip.sock")))
	}
	return nil, fmt.Errorf("reading --protocol: %q is none of lane, ring, agent and oip", f.scorer)
}

func socketIn(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// secret reads 32 random bytes from a file, which it makes at the first start. All application servers that share a database need the same.
func secret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made := make([]byte, 32)
		_, _ = rand.Read(made) // it never fails
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("making the secret for the 2nd factor: %w", err)
		}
		if _, err = io.WriteString(file, base64.StdEncoding.EncodeToString(made)+"\n"); err == nil {
			err = file.Sync()
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("making the secret for the 2nd factor: %w", err)
		}
		return made, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the secret for the 2nd factor: %w", err)
	}
	made, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(made) < 32 {
		return nil, fmt.Errorf("reading the secret for the 2nd factor: %s does not hold 32 bytes or more in base64", path)
	}
	return made, nil
}

// listen opens host:port or unix:/path. A socket that a process left behind is replaced.
func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if conn, err := net.Dial("unix", path); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("listening: somebody answers on %s already", path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("listening: %w", err)
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, fmt.Errorf("listening: %w", err)
		}
		if err := os.Chmod(path, 0o660); err != nil {
			return nil, errors.Join(fmt.Errorf("listening: %w", err), l.Close())
		}
		return l, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

// collectSeldom lets the collector wait until the memory has grown fivefold. The servers keep little and make much waste, and at the default they would collect many times a second. $GOGC wins.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// serve runs a server until ctx ends, then lets what is under way end.
func serve(ctx context.Context, server *http.Server, run func() error) error {
	collectSeldom()
	failed := make(chan error, 1)
	go func() { failed <- run() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := server.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if ran := <-failed; !errors.Is(ran, http.ErrServerClosed) {
		err = errors.Join(err, ran)
	}
	if err != nil {
		return fmt.Errorf("ending: %w", err)
	}
	return nil
}

// frontendFlags are those of the front-end.
type frontendFlags struct {
	o                            frontend.Options
	listen, state, cert, keyFile string
	log                          io.Writer // standard error if nil
}

func frontendCommand() *cobra.Command {
	var f frontendFlags
	c := &cobra.Command{
		Use: "frontend", Short: "run the front-end web server", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8443", "where it listens, with TLS")
	c.Flags().StringSliceVar(&f.o.Applications, "application", []string{"127.0.0.1:8081"}, "an application server: host:port or unix:/path; repeat it for more")
	c.Flags().StringVar(&f.state, "state", ".", "the folder for a certificate of its own, where none is given")
	c.Flags().StringVar(&f.cert, "certificate", "", "a PEM file; one for this machine is made if empty")
	c.Flags().StringVar(&f.keyFile, "key", "", "the certificate's key")
	c.Flags().Float64Var(&f.o.PerSecond, "rate", 200, "requests that an address may send a second; below 0 for no limit")
	c.Flags().IntVar(&f.o.Burst, "burst", 400, "requests that an address may send at once")
	c.Flags().IntVar(&f.o.Logins, "logins", 10, "logins that an address may try a minute")
	c.Flags().IntVar(&f.o.Outstanding, "outstanding", 2048, "requests that may be under way")
	return c
}

func (f *frontendFlags) run(ctx context.Context) error {
	f.o.Log = logger(f.log).With("server", "front-end")
	if f.cert == "" {
		f.cert, f.keyFile = filepath.Join(f.state, "frontend.pem"), filepath.Join(f.state, "frontend-key.pem")
		if _, err := os.Stat(f.cert); errors.Is(err, fs.ErrNotExist) {
			if err := frontend.SelfSigned(f.cert, f.keyFile, time.Now()); err != nil {
				return err
			}
		}
	}
	certificate, err := tls.LoadX509KeyPair(f.cert, f.keyFile)
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	f.o.Pages = web.Handler()
	s, err := frontend.New(f.o)
	if err != nil {
		return err
	}
	defer s.Close()
	listener, err := listen(f.listen)
	if err != nil {
		return err
	}
	server := frontend.HTTP(s, certificate)
	server.ErrorLog = slog.NewLogLogger(f.o.Log.Handler(), slog.LevelDebug)
	f.o.Log.Info("the front-end serves", "address", f.listen)
	return serve(ctx, server, func() error { return server.ServeTLS(listener, "", "") })
}

func analystCommand() *cobra.Command {
	var d database
	var state string
	c := &cobra.Command{
		Use: "analyst NAME", Short: "add an analyst, or give one another password, which is read from standard input", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			text, err := io.ReadAll(io.LimitReader(c.InOrStdin(), 1024))
			if err != nil {
				return fmt.Errorf("reading the password: %w", err)
			}
			a, err := application.NewAnalyst(args[0], strings.TrimRight(string(text), "\r\n"))
			if err != nil {
				return err
			}
			s, err := d.open(c.Context(), state)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			return s.SetAnalyst(c.Context(), a)
		},
	}
	d.flags(c)
	c.Flags().StringVar(&state, "state", ".", "the folder of the application's files")
	return c
}

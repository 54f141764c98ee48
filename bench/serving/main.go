// Command serving measures picketd beside the servers that others use for the same job, and beside an empty server in Go: the
// same model (500 trees of depth 6 over 30 features, by XGBoost), the same rows, the same clients, in one run. Every answer is
// compared with the trainer's while it is timed. Servers take turns of a fraction of a second, in random order, again and
// again, and are stopped (SIGSTOP) while they wait for theirs. With -network it is a small network in an ONNX file, which ONNX
// Runtime runs in picketd, in MLServer and in Triton; answers are compared with those of its C API. A table goes to standard error, JSON to standard output.
//
// A client makes its next call when the last was answered (a closed loop): a server that stalls is asked less while it does,
// so the 99th percentiles leave out most of the waiting that callers with a schedule of their own would see (this is known as
// coordinated omission), which flatters slow servers most. The clients share the cores with the server, as local clients do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/peers/servers"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// How targets are told apart.
const (
	grpcOIP    = "OIP gRPC"
	httpJSON   = "OIP HTTP, JSON"
	httpBinary = "OIP HTTP, binary"
	onLane     = "lane"
	pipelined  = "lane, pipelined"
	inRing     = "lane, in a ring"
	grpcAgent  = "agent gRPC"

	empty   = "empty server"
	picketd = "picketd"
)

const testRows = 10_000

type options struct {
	quick   bool
	network bool
	servers string
	turns   int
	window  time.Duration
}

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "take two turns instead of eight")
	flag.BoolVar(&o.network, "network", false, "serve a small network from an ONNX file, by ONNX Runtime everywhere, in place of the trees")
	flag.StringVar(&o.servers, "servers", "", "measure only the servers of others that this `LIST` of folders names, separated by commas; \"none\" for none")
	flag.IntVar(&o.turns, "turns", 8, "how often each target has its turn with each load")
	flag.DurationVar(&o.window, "window", 250*time.Millisecond, "how long calls are counted in a turn")
	program.Main("bench-serving", o.start)
}

// start is the empty server where the arguments say so, else the benchmark; SIGTERM ends either.
func (o *options) start(ctx context.Context) error {
	arguments := flag.Args()
	if o.quick {
		o.turns = 2
	}
	if len(arguments) > 0 && arguments[0] == emptyServer {
		return serveEmpty(ctx, arguments[1:])
	}
	// The clients' own collections of garbage are to be rare: they would be waited for as if the server were slow.
	debug.SetGCPercent(1000)
	return run(ctx, *o)
}

// benchmark is one run.
type benchmark struct {
	options options
	spec    models.Spec
	dir     string
	ask     protocols.Ask
	out     *report.Report
	servers []*process.Server
	targets []*target
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &benchmark{options: o, spec: models.Specs()[0], dir: dir, out: report.New()}
	if o.network {
		b.spec = models.Spec{Name: networkName, Features: networkFeatures, File: networkFile(), Classes: 2}
	}
	values := testkit.RowsNoMissing(testRows, b.spec.Features) // JSON has no word for what is missing that all servers know
	data, err := tensor.New("data", tensor.FP32, tensor.MustShape(testRows, int64(b.spec.Features)))
	if err != nil {
		return err
	}
	defer data.Buffer.Release()
	copy(data.Bytes(), tensor.AsBytes(values))
	var answers []float32
	if o.network {
		answers, err = networkAnswers(data)
	} else {
		answers, err = b.spec.Answers(ctx, values)
	}
	if err != nil {
		return err
	}
	b.ask = protocols.Ask{Model: b.spec.Name, Rows: (&protocols.Rows{Data: data, Answers: answers}).WithText()}

	defer b.end()
	if err := b.startOwn(ctx); err != nil {
		return err
	}
	if err := b.startPeers(ctx); err != nil {
		return err
	}
	results, err := b.measure(ctx)
	if err != nil {
		return err
	}
	if err := b.describe(); err != nil {
		return err
	}
	results = append(results, b.otherClient(ctx)...)
	b.out.Results = results
	if err := show(results); err != nil {
		return err
	}
	b.goals(results)
	return b.out.Write()
}

func (b *benchmark) warn(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "bench-serving: "+format+"\n", values...)
}

// ours tells the servers that there must be.
func ours(s *process.Server) bool { return s.Name == empty || s.Name == picketd }

// leave says that something is not measured, and why.
func (b *benchmark) leave(what string, why error) {
	b.warn("%s is left out: %v", what, why)
	b.out.LeftOut = append(b.out.LeftOut, report.LeftOut{Model: "all", Engine: what, Why: why.Error()})
}

// add takes a server that was started into the benchmark once it answers rightly, and lays it to rest. It needs to answer the
// first of the targets; a peer may do without the others.
func (b *benchmark) add(ctx context.Context, s *process.Server, targets []*target) error {
	b.servers = append(b.servers, s)
	for i, t := range targets {
		err := s.Answers(ctx, t.once)
		if err != nil && (i == 0 || ours(s) || ctx.Err() != nil) {
			return fmt.Errorf("%s: %w", t.protocol, err)
		}
		if err != nil {
			b.leave(s.Name+", "+t.protocol, err)
			continue
		}
		b.targets = append(b.targets, t)
	}
	return s.Rest()
}

// startOwn starts the empty server and picketd.
func (b *benchmark) startOwn(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	free, err := process.Ports(3)
	if err != nil {
		return err
	}
	sockets := func(name string) string { return filepath.Join(b.dir, name+".sock") }
	at := func(address string) protocols.Ask {
		ask := b.ask
		ask.Address = address
		return ask
	}
	floor := func(address string) protocols.Ask {
		ask := at(address)
		ask.Rows = (&protocols.Rows{Data: ask.Rows.Data}).WithText()
		ask.Version = "1" // which it repeats; picketd's is as long
		return ask
	}

	s, err := process.Launch(filepath.Join(b.dir, "empty"), empty, self, emptyServer, sockets("empty-grpc"), free[0], sockets("empty-http"), free[1])
	if err != nil {
		return err
	}
	s.Version = "grpc-go and net/http, without a model"
	err = b.add(ctx, s, []*target{
		{s, grpcOIP, floor(sockets("empty-grpc")), each(protocols.Ask.OIP)},
		{s, grpcOIP, floor(free[0]), each(protocols.Ask.OIP)},
		{s, httpJSON, floor(sockets("empty-http")), emptyHTTP},
		{s, httpJSON, floor(free[1]), emptyHTTP},
	})
	if err != nil {
		return err
	}

	program, err := versus.BuildDaemon(ctx, b.dir)
	if err != nil {
		return err
	}
	model, more := "", ""
	if b.options.network {
		model, err = networkFolder(b.dir)
		more = fmt.Sprintf("backends: {onnxruntime: %q}\n", models.ONNXRuntime())
	} else {
		model, err = b.spec.Folder(ctx)
	}
	if err != nil {
		return err
	}
	config := filepath.Join(b.dir, "picketd.yaml")
	text := fmt.Sprintf("sockets: {dir: %q}\ntcp: {listen: [%q]}\nmodels: [{name: %q, path: %q}]\nunsigned: true\nhost: {imds: false}\n%s", b.dir, free[2], b.spec.Name, model, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing picketd's configuration: %w", err)
	}
	if s, err = process.Launch(filepath.Join(b.dir, "picketd.d"), picketd, program, "--config", config); err != nil {
		return err
	}
	s.Version = "built from this source"
	local, loopback := at(sockets("oip")), at(free[2])
	return b.add(ctx, s, []*target{
		{s, inRing, at(sockets("lane")), ringPerCall},
		{s, onLane, at(sockets("lane")), onePerCall},
		{s, pipelined, at(sockets("lane")), twoPipelines},
		{s, grpcAgent, at(sockets("agent")), each(protocols.Ask.Agent)},
		{s, grpcOIP, local, each(protocols.Ask.OIP)},
		{s, grpcOIP, loopback, each(protocols.Ask.OIP)},
		{s, httpBinary, local, overHTTP(protocols.Binary)},
		{s, httpBinary, loopback, overHTTP(protocols.Binary)},
		{s, httpJSON, local, overHTTP(protocols.JSON)},
		{s, httpJSON, loopback, overHTTP(protocols.JSON)},
	})
}

// emptyHTTP tells the empty server how many rows there are in the query.
func emptyHTTP(ask protocols.Ask, l load) *clients {
	return &clients{versus.Timed(ask.HTTP(protocols.JSON, fmt.Sprintf("%s?%d", protocols.Path(ask.Model), l.rows))), l.outstanding, 1}
}

// startPeers starts the servers of others, as far as they can be installed.
func (b *benchmark) startPeers(ctx context.Context) error {
	model, err := b.spec.Train(ctx)
	if err != nil {
		return err
	}
	for _, p := range servers.All() {
		if b.options.servers != "" && !slices.Contains(strings.Split(b.options.servers, ","), p.Folder) {
			b.leave(p.Name, errors.New("it was not chosen for this run"))
			continue
		}
		if b.options.network && !p.Networks {
			b.leave(p.Name, errors.New("nobody has set it up for networks here"))
			continue
		}
		if err := p.Install(ctx); err != nil {
			b.leave(p.Name, err)
			continue
		}
		s, targets, err := startPeer(&p, b.dir, model, b.ask)
		if err != nil {
			return err
		}
		if err := b.add(ctx, s, targets); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.leave(p.Name, err)
			s.End()
		}
	}
	return nil
}

// end ends all servers.
func (b *benchmark) end() {
	for _, s := range b.servers {
		s.End()
	}
}

// measure measures all targets with all loads, one load after the other.
func (b *benchmark) measure(ctx context.Context) ([]report.Serving, error) {
	var results []report.Serving
	random := rand.New(rand.NewPCG(1, 3))
	began := time.Now()
	for _, l := range loads {
		var tallies []*tally
		for _, t := range b.targets {
			if c := t.of(l); c != nil {
				tallies = append(tallies, &tally{target: t, clients: c})
			}
		}
		for n := range b.options.turns {
			for _, i := range random.Perm(len(tallies)) {
				t := tallies[i]
				if !slices.Contains(b.targets, t.target) {
					continue
				}
				c, err := t.target.turn(ctx, t.clients, b.options.window, uint64(n))
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				if err != nil {
					err = fmt.Errorf("with %d rows and %d outstanding: %w", l.rows, l.outstanding, err)
					if err := b.drop(t.target, err); err != nil {
						return nil, err
					}
					continue
				}
				t.add(c)
			}
		}
		for _, t := range tallies {
			if !slices.Contains(b.targets, t.target) {
				continue
			}
			r, err := t.result(b.spec.Name, l)
			if err == nil {
				results = append(results, r)
			} else if err := b.drop(t.target, err); err != nil {
				return nil, err
			}
		}
		b.warn("%d rows, %d outstanding: done after %.0f s", l.rows, l.outstanding, time.Since(began).Seconds())
	}
	return results, nil
}

// drop measures a target no longer, or says why that may not be.
func (b *benchmark) drop(t *target, why error) error {
	if ours(t.server) {
		return fmt.Errorf("%s over %s (%s): %w", t.server.Name, t.protocol, t.transport(), why)
	}
	b.leave(t.server.Name+", "+t.protocol, why)
	b.targets = slices.DeleteFunc(b.targets, func(other *target) bool { return other == t })
	return nil
}

// describe says of all servers what they are.
func (b *benchmark) describe() error {
	for _, s := range b.servers {
		if s.Took == 0 {
			continue // it never answered
		}
		memory, err := s.Memory()
		if err != nil {
			return err
		}
		b.out.Servers = append(b.out.Servers, report.Server{Name: s.Name, Version: s.Version, StartS: s.Took.Seconds(), Memory: memory})
	}
	return nil
}

// show prints the results as a table.
func show(results []report.Serving) error {
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "rows\toutstanding\tserver\tprotocol\ttransport\tp50, us\tp99, us\trows/s\tmiddle half of turns\tserver's CPU, us a request")
	for _, r := range results {
		spread := ""
		if len(r.Quartiles) == 2 {
			spread = fmt.Sprintf("%.0f to %.0f", r.Quartiles[0], r.Quartiles[1])
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%.0f\t%.0f\t%.0f\t%s\t%.1f\n",
			r.Rows, r.Outstanding, r.Target, r.Protocol, r.Transport, r.P50US, r.P99US, r.RowsPerS, spread, r.CPUUS)
	}
	return w.Flush()
}

// Command fraud measures the fraud application end to end: a front-end server with TLS, an application server, picketd, and a database, each a process of its own, under the load of simulated
// customers, who share the processors with all of it. JSON goes to standard output.
//
// The closed loop finds how many transactions a second there can be; in the open loop they come at random times (Poisson) at the rate that is promised, and a transaction's time counts from when
// it was due. PostgreSQL commits durably, as it does by default, and so does SQLite.
//
// Picket's share is told in all ways that it can be asked for. Of the time, and that is promised: what the application waited for scores and reasons, by its clock, with all that the question and the answer wait for
// a processor, by what the transactions took as their clients see it. Of the processors, and that is promised too: what picketd took, by what all servers and the database took together, without the load. What picketd
// had the questions for by its own clock is told beside: the rest of the wait is two changes of process on processors that all programs share.
//
// How much of that is anybody's who is asked over a socket, and how much is ours, the turns tell: the same application with picketd, with an empty server of the lane, and with nobody to ask takes turns in one run. picketd
// gives reasons and captures a tenth of what it is asked, as a bank's would.
//
// With -beside mlserver the same application asks MLServer too, which has the same model, over the Open Inference Protocol: nothing but that call differs.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/bench/peers/servers"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/examples/fraud/load"
	"github.com/picket-ml/picket/examples/fraud/scoring"
	"github.com/picket-ml/picket/internal/testkit/postgres"
)

// What is promised (docs/SPECIFICATION.md).
const (
	postgresRate = 2000.0
	sqliteRate   = 3000.0
	mostP99      = 25_000.0 // us, at the promised rate
	mostShare    = 0.02     // of a transaction's time, and of the processors'
	mostByRules  = 0.01     // of the decisions: with more, the figures are of something else
)

const (
	key    = "the-key-of-the-benchmark"
	models = "examples/fraud/model"
	// What is in the database before: some 200,000 transactions, so that profiles are full and scores are what they are in use. Without them every device and country is new, and four times as many scores
	// need reasons.
	customers, historyDays = 5000, 20
)

type settings struct {
	length, warm, budget time.Duration
	clients              int
	most                 int
	rate                 float64
	only, loop           string
	capture              float64
	turns                int
	turn                 time.Duration
	protocol             string
	beside               string
}

// promised is how many transactions a second there are to be with a database.
func promised(database string) float64 {
	if database == "sqlite" {
		return sqliteRate
	}
	return postgresRate
}

// openRate is at what rate transactions come in the open loop: the one that is promised, unless another is asked for.
func (s *settings) openRate(database string) float64 {
	if s.rate > 0 {
		return s.rate
	}
	return promised(database)
}

// result is one measurement.
type result struct {
	Database string  `json:"database"`
	Loop     string  `json:"loop"` // "closed", or "open" at Rate
	Rate     float64 `json:"rate,omitempty"`
	Clients  int     `json:"clients"`
	// Scorer is who gave the scores, and Version what that is where it is not ours.
	Scorer   string `json:"scorer"`
	Version  string `json:"version,omitempty"`
	Protocol string `json:"protocol"`
	// Budget is how long a score could take before rules decided.
	Budget string `json:"budget"`
	*load.Result
	// CPU is the processors' time in microseconds a transaction, by process.
	CPU map[string]float64 `json:"cpu_us"`
	// Inside is how long picketd had a question, by its own clock: from its arrival in the engine to the answer that is ready to be sent. Asked is how many questions a transaction had: one more for reasons.
	Inside float64 `json:"inside_us,omitempty"`
	Asked  float64 `json:"asked,omitempty"`
}

// serving is the processors' time of all but the load.
func (r *result) serving() float64 {
	total := 0.0
	for name, us := range r.CPU {
		if name != "load" {
			total += us
		}
	}
	return total
}

// rules is how many of the answers rules gave.
func (r *result) rules() float64 {
	n := int64(0)
	for _, one := range r.ByRules {
		n += one
	}
	return float64(n) / float64(max(1, r.Answered))
}

func main() {
	var s settings
	flag.DurationVar(&s.length, "for", 10*time.Second, "how long each measurement takes")
	flag.DurationVar(&s.warm, "warm", 3*time.Second, "how long before each nothing counts")
	flag.IntVar(&s.clients, "clients", 64, "clients of the closed loop; the open loop has four times as many")
	flag.IntVar(&s.most, "most", 12_000, "how many transactions a second are prepared for the closed loop")
	flag.StringVar(&s.only, "only", "", "only this database: postgresql or sqlite")
	flag.StringVar(&s.loop, "loop", "", "only this loop: closed, open, or turns")
	flag.IntVar(&s.turns, "turns", 5, "how many turns picketd, the empty server and nobody have each; 0 for none")
	flag.DurationVar(&s.turn, "turn", 4*time.Second, "how long a turn counts")
	flag.Float64Var(&s.capture, "capture", 0.1, "what part of the questions and answers picketd captures")
	flag.StringVar(&s.protocol, "protocol", "lane", "how the application asks picketd for scores: lane, ring, agent or oip")
	flag.StringVar(&s.beside, "beside", "", "another server that is asked for the scores, after picketd: mlserver, which is installed at its first use")
	flag.Float64Var(&s.rate, "rate", 0, "transactions a second of the open loop; those that are promised if 0")
	flag.DurationVar(&s.budget, "budget", 20*time.Millisecond, "how long a score may take before rules decide")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, &s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fraud:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s *settings) (err error) {
	if flag.NArg() == 2 && flag.Arg(0) == emptyServer {
		return serveEmpty(ctx, flag.Arg(1))
	}
	dir, err := os.MkdirTemp("", "bf") // short, because of the sockets' paths
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL runs as another user
		return err
	}
	scorers := []*servers.Kind{nil} // picketd
	if s.beside != "" {
		peer, err := besides(ctx, s.beside)
		if err != nil {
			return err
		}
		scorers = append(scorers, peer)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./examples/fraud", "./cmd/picketd")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the programs: %w\n%s", err, output)
	}
	out := report.New()
	var list []result
	for _, database := range []string{"postgresql", "sqlite"} {
		if s.loop == "turns" || s.only != "" && s.only != database {
			continue
		}
		for _, scorer := range scorers {
			one, err := measure(ctx, s, dir, database, scorer)
			if err != nil {
				return fmt.Errorf("measuring with %s: %w", database, err)
			}
			list = append(list, one...)
		}
	}
	var taken []result
	if s.turns > 0 && s.only != "sqlite" && (s.loop == "" || s.loop == "turns") {
		if taken, err = turns(ctx, s, dir); err != nil {
			return fmt.Errorf("measuring in turns: %w", err)
		}
		adds(out, taken)
	}
	out.Results = append(list, taken...)
	for i := range list {
		if list[i].Scorer == picketd {
			figures(out, &list[i])
		} else {
			compare(out, &list[i])
		}
	}
	return out.Write()
}

// picketd is the name of our own scorer.
const picketd = "picketd"

// besides is the other server, installed.
func besides(ctx context.Context, folder string) (*servers.Kind, error) {
	all := servers.All()
	i := slices.IndexFunc(all, func(k servers.Kind) bool { return k.Folder == folder && k.GRPC && k.JSON })
	if i < 0 {
		return nil, fmt.Errorf("reading -beside: %q is no server of bench/peers/servers that speaks the Open Inference Protocol; mlserver is one", folder)
	}
	return &all[i], all[i].Install(ctx)
}

// compare tells what came of it with another server in picketd's place. Nothing is promised of that.
func compare(out *report.Report, r *result) {
	what := fmt.Sprintf("%s, %s, scores of %s", r.Database, r.Loop, r.Scorer)
	out.Tell(what+": answered a second", r.PerSecond, "/s")
	out.Tell(what+": p50", float64(r.Latency.P50), "us")
	out.Tell(what+": p99", float64(r.Latency.P99), "us")
	out.Tell(what+": score, p50", float64(r.Scoring.P50), "us")
	out.Tell(what+": part of the time that the score took", r.ScoringShare, "ratio")
	out.Tell(what+": part of the servers' processors' time that it took", r.CPU[r.Scorer]/max(1, r.serving()), "ratio")
	for _, name := range slices.Sorted(maps.Keys(r.CPU)) {
		out.Tell(what+": processors' time of "+name, r.CPU[name], "us")
	}
	out.Tell(what+": decided by rules", r.rules(), "ratio")
}

func figures(out *report.Report, r *result) {
	what := r.Database + ", " + r.Loop
	bad := r.Late
	for _, n := range r.Failed {
		bad += n
	}
	if r.Loop == "closed" {
		least := promised(r.Database)
		out.Reach(fmt.Sprintf("%s: transactions a second, by %.0f", what, least), r.PerSecond/least, 1)
		out.Tell(what+": p50", float64(r.Latency.P50), "us")
		out.Tell(what+": p99", float64(r.Latency.P99), "us")
	} else {
		out.Tell(fmt.Sprintf("%s: answered a second, of %.0f", what, r.Rate), r.PerSecond, "/s")
		out.Tell(what+": p50", float64(r.Latency.P50), "us")
		out.Promise(what+": p99", float64(r.Latency.P99), "us", mostP99)
	}
	out.Tell(what+": in the application, p50", float64(r.Application.P50), "us")
	out.Tell(what+": score, p50", float64(r.Scoring.P50), "us")
	out.Promise(what+": part of the time that the score took", r.ScoringShare, "ratio", mostShare)
	if r.Answered == 0 {
		out.LeftOut = append(out.LeftOut, report.LeftOut{Model: "fraud", Engine: r.Database, Why: fmt.Sprintf("nothing was answered: %v", r.Failed)})
		return
	}
	out.Promise(what+": part of the servers' processors' time that picketd took", r.CPU[picketd]/r.serving(), "ratio", mostShare)
	out.Tell(what+": the same, of the load's as well", r.CPU[picketd]/(r.serving()+r.CPU["load"]), "ratio")
	out.Tell(what+": a question inside picketd, mean", r.Inside, "us")
	out.Tell(what+": part of the time that picketd itself had the questions", r.Inside*r.Asked/max(1, r.MeanLatency), "ratio")
	for _, name := range slices.Sorted(maps.Keys(r.CPU)) {
		out.Tell(what+": processors' time of "+name, r.CPU[name], "us")
	}
	out.Promise(what+": without a decision", float64(bad), "transactions", 0)
	out.Promise(what+": decided by rules", r.rules(), "ratio", mostByRules)
}

// measure starts everything with one database and loads it. peer is the server that is asked for scores; nil is picketd.
func measure(ctx context.Context, s *settings, bin, database string, peer *servers.Kind) (list []result, err error) {
	scorer := picketd
	if peer != nil {
		scorer = peer.Folder
	}
	p, err := prepare(bin, filepath.Join(bin, database+"-"+scorer), database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	one, err := p.newSite(ctx, alone, s.protocol)
	switch {
	case err != nil:
	case peer == nil:
		err = p.startPicketd(ctx, s, one)
	default:
		one.protocol = "oip"
		if err = p.besides(ctx, peer); err == nil {
			one.asks, one.version = []string{"--oip", p.peer.HTTP, "--control", "", "--metrics", ""}, p.peer.Version
		}
	}
	if err == nil {
		err = p.open(ctx, s, one)
	}
	if err != nil {
		return nil, err
	}
	for _, loop := range []struct {
		name    string
		rate    float64
		clients int
	}{{"closed", 0, s.clients}, {"open", s.openRate(database), 4 * s.clients}} {
		if s.loop != "" && s.loop != loop.name {
			continue
		}
		n := float64(s.most)
		if loop.rate > 0 {
			n = 1.2 * loop.rate
		}
		r, err := p.load(ctx, one, int(n*(s.length+s.warm).Seconds())+1000, load.Options{Clients: loop.clients, Rate: loop.rate, For: s.length, Warm: s.warm})
		if err != nil {
			return nil, err
		}
		r.Database, r.Loop, r.Rate, r.Clients = database, loop.name, loop.rate, loop.clients
		r.Scorer, r.Version, r.Protocol, r.Budget = scorer, one.version, one.protocol, s.budget.String()
		list = append(list, *r)
	}
	return list, nil
}

// prepare makes a folder for programs, and starts PostgreSQL where that is the database. The caller ends it.
func prepare(bin, dir, database string) (*programs, error) {
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, err
	}
	p := &programs{bin: bin, dir: dir, keys: filepath.Join(dir, "client.keys")}
	if err := os.WriteFile(p.keys, []byte(key+"\n"), 0o600); err != nil {
		return nil, err
	}
	if database != "postgresql" {
		return p, nil
	}
	pg := filepath.Join(dir, "pg")
	if err := os.Mkdir(pg, 0o700); err != nil {
		return nil, err
	}
	var err error
	p.postgres, err = postgres.StartIn(pg)
	return p, err
}

// load has simulated customers use a site, and adds what its processes and its scorer took meanwhile.
func (p *programs) load(ctx context.Context, at *site, most int, o load.Options) (*result, error) {
	bodies, err := load.Bodies(at.simulation, fmt.Sprintf("b%x-", rand.Uint32()), most)
	if err != nil {
		return nil, err
	}
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	began, err := at.inside(ctx)
	if err != nil {
		return nil, err
	}
	o.URL, o.Key, o.TLS = "https://"+at.address, key, &tls.Config{RootCAs: at.trusted, MinVersion: tls.VersionTLS12}
	answer, err := load.Run(ctx, o, bodies)
	if err != nil {
		return nil, err
	}
	after, err := p.cpu()
	if err != nil {
		return nil, err
	}
	ended, err := at.inside(ctx)
	if err != nil {
		return nil, err
	}
	r := &result{Result: answer, CPU: map[string]float64{}}
	// The time before it counted is in both, so what is told for a transaction is a little coarse.
	all := float64(max(1, answer.Answered)) * (o.For + o.Warm).Seconds() / o.For.Seconds()
	for name, took := range after {
		r.CPU[name] = float64((took - before[name]).Microseconds()) / all
	}
	if asked := ended.requests - began.requests; asked > 0 {
		r.Inside = (ended.took - began.took) / asked * 1e6
		r.Asked = asked / all
	}
	return r, nil
}

// programs are the processes of one measurement.
type programs struct {
	bin, dir string
	keys     string
	running  []*exec.Cmd
	names    []string
	postgres *postgres.Server // nil without
	peer     *servers.Running
	peerName string
}

// end ends all of them, the database last.
func (p *programs) end() error {
	err := p.stop()
	if p.peer != nil {
		p.peer.End()
	}
	if p.postgres != nil {
		err = errors.Join(err, p.postgres.Stop())
	}
	return err
}

// besides starts another server with the newest version of the model, under the name by which the application asks for it, and returns when it answers. The caller ends it.
func (p *programs) besides(ctx context.Context, kind *servers.Kind) error {
	list, err := scoring.ReadModels(models)
	if err != nil {
		return err
	}
	newest := list[len(list)-1]
	p.peerName = kind.Folder
	if p.peer, err = kind.Start(p.dir, filepath.Join(newest.Path(), "fraud.ubj"), newest.Served()); err != nil {
		return err
	}
	ask, err := scoring.OverOIP(p.peer.HTTP)
	if err != nil {
		return err
	}
	defer ask.Close()
	if err := p.peer.Answers(ctx, func(ctx context.Context) error { return ask.Use(ctx, newest) }); err != nil {
		p.peer.End()
		return fmt.Errorf("starting %s: %w", kind.Name, err)
	}
	return nil
}

// start starts a program, which is called name in what is told.
func (p *programs) start(name, program string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(program, args...)
	c.Stderr = log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return err
	}
	p.running = append(p.running, c)
	p.names = append(p.names, name)
	return nil
}

// stopOne ends the program of that name.
func (p *programs) stopOne(name string) error {
	i := slices.Index(p.names, name)
	c := p.running[i]
	p.running, p.names = slices.Delete(p.running, i, i+1), slices.Delete(p.names, i, i+1)
	return (&programs{dir: p.dir, running: []*exec.Cmd{c}, names: []string{name}}).stop()
}

func (p *programs) stop() error {
	var failed error
	for i := len(p.running) - 1; i >= 0; i-- {
		c := p.running[i]
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			failed = errors.Join(failed, fmt.Errorf("stopping %s: %w", p.names[i], err))
			continue
		}
		if err := c.Wait(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s ended: %w", p.names[i], err))
		}
	}
	if failed != nil {
		text, _ := os.ReadFile(filepath.Join(p.dir, "log")) // without it the sentence is shorter
		failed = fmt.Errorf("%w; the log ends with %s", failed, text[max(0, len(text)-2000):])
	}
	return failed
}

// cpu is the processors' time of each process until now; the load's is this process's own.
func (p *programs) cpu() (map[string]time.Duration, error) {
	all := map[string]time.Duration{}
	for i, c := range p.running {
		one, err := versus.CPU(c.Process.Pid)
		if err != nil {
			return nil, err
		}
		all[p.names[i]] = one
	}
	if p.peer != nil {
		one, err := p.peer.CPU()
		if err != nil {
			return nil, err
		}
		all[p.peerName] = one
	}
	own, err := versus.CPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	all["load"] = own
	if p.postgres == nil {
		return all, nil
	}
	group := p.postgres.PID()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range stats {
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			return nil, err
		}
		parent, one, err := versus.Stat(pid)
		if err != nil { // it has ended meanwhile
			continue
		}
		if pid == group || parent == group {
			all["postgresql"] += one
		}
	}
	return all, nil
}

// reach returns when somebody listens at an address.
func reach(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody listens at %s: %w", address, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// wait returns when a file is there.
func wait(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not appear", path)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Command overload asks a server for five times of what it can do, over lane.sock,
// and looks at what becomes of the requests. JSON goes to standard output.
//
// Requests are sent when they are due, at random times (Poisson) and in bursts,
// whatever became of those before (an open loop), and every time is counted from
// when a request was due, not from when it was sent: a server that stalls, or a
// generator that does, is not asked less for it. Capacity is what the same
// connections get when they keep enough requests outstanding, right before the open
// loop and right after it: a virtual processor can be half as fast ten seconds later.
//
// There are two servers: one of the engine and the lane's server with a model that
// takes a fixed time a run, and picketd with a forest of 500 trees of depth 6 as
// compiled by `picket compile`, run by backend treelite: the fastest kernels take
// less time for a row than reading it does, and then the socket is what is
// overloaded, which makes its clients wait to write and refuses nobody.
//
// With -against another picketd, built before a change or after it, takes turns with the first, and -rounds repeats that: what differs from one run to
// the next then meets both. How much of the processors' time a request takes is steadier than what is answered.
//
// An empty server is asked for the same after each, and refuses everything: what a message takes there is the floor.
//
// The generator shares the cores with the servers. To keep them apart, so that a server answers for what it does with a processor of
// its own, give the servers one and the program another: taskset -c 1 go run ./bench/overload -cores 0. Who had the processors is
// told: beside what is promised, never in its place, what was answered is compared with what the server could have done with what
// was left to it.
//
// With -apart picketd's model has a processor of its own, and everything else the others, as the daemon's key cores has it: its connections, and the load. What
// differs from the same without it is what the system's placement of threads takes, which lets one wait for a processor beside one that is idle.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/fixedcost"
	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
)

// What is promised.
const (
	leastGoodput = 0.95  // of capacity
	mostRefusal  = 5e3   // us, 99 in 100
	leastOnTime  = 0.999 // of what was accepted
	mostMemory   = 1.3   // times that under load without overload
	mostRecovery = 1e6   // us
)

// fixed is the first server's model.
var fixed = fixedcost.Cost{Run: 2 * time.Millisecond, Row: 10 * time.Microsecond}

const (
	fixedRows = 8 // max_batch_rows
	fixedName = "fixed"
	realRows  = 64 // of a request to the real model
)

type settings struct {
	times    float64
	seconds  int
	deadline time.Duration
	clients  int
	cores    string
	only     string
	picketd  string
	against  string
	rounds   int
	artifact string
	apart    bool
	others   []int // with apart, the processors that are not the model's
	serve    string
	refuse   string
}

func main() {
	var s settings
	long := flag.Bool("long", false, "overload each server for ten minutes with each kind of arrivals")
	flag.Float64Var(&s.times, "times", 5, "how many times the capacity is asked for")
	flag.IntVar(&s.seconds, "seconds", 4, "how long each overload lasts")
	flag.DurationVar(&s.deadline, "deadline", 100*time.Millisecond, "the deadline of each request")
	flag.IntVar(&s.clients, "clients", 4, "how many connections there are")
	flag.StringVar(&s.cores, "cores", "", "run the servers on these CPUs, by taskset; the load stays where this program is")
	flag.StringVar(&s.only, "only", "", "only this server: fixed or picketd")
	flag.StringVar(&s.picketd, "picketd", "", "a picketd that was built already")
	flag.StringVar(&s.against, "against", "", "another picketd, to take turns with the first")
	flag.IntVar(&s.rounds, "rounds", 1, "how often each overload is repeated")
	flag.StringVar(&s.artifact, "artifact", "", "the artifact of a model of 30 features that was compiled already")
	flag.BoolVar(&s.apart, "apart", false, "give picketd's model the last processor for itself, and the others to everything else, the load included")
	flag.StringVar(&s.serve, "serve", "", "be the first server, on this socket")
	flag.StringVar(&s.refuse, "refuse", "", "be the empty server, on this socket")
	program.Main("bench-overload", func(ctx context.Context) error {
		if *long {
			s.seconds = 600
		}
		return s.main(ctx)
	})
}

func (s *settings) main(ctx context.Context) (err error) {
	if s.serve != "" {
		return fixedcost.Serve(ctx, s.serve, fixed, map[string]engine.ModelOptions{fixedName: {MaxBatchRows: fixedRows}})
	}
	if s.refuse != "" {
		return serveFloor(ctx, s.refuse)
	}
	if s.apart && (s.cores != "" || s.only != "picketd") {
		return errors.New("-apart goes with -only picketd and without -cores")
	}
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := report.New()
	var results []overload
	for _, kind := range []struct {
		name   string
		serves []serve
	}{{"fixed", []serve{s.fixedCost}}, {"picketd", s.realModels()}} {
		if s.only != "" && s.only != kind.name {
			continue
		}
		measured, err := s.one(ctx, filepath.Join(dir, kind.name), kind.serves, out)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", kind.name, err)
		}
		results = append(results, measured...)
	}
	out.Results = results
	return out.Write()
}

// subject is a server to be overloaded.
type subject struct {
	name           string
	process        *versus.Process
	socket, model  string
	rows, rowBytes int // of a request
	outstanding    int // of all connections, that keep it busy
}

// serve starts a server whose sockets are in dir.
type serve func(ctx context.Context, dir string) (*subject, error)

func (s *settings) fixedCost(ctx context.Context, dir string) (*subject, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	socket := filepath.Join(dir, "lane.sock")
	p, err := s.start(ctx, dir, self, "-serve", socket)
	return &subject{
		name: fmt.Sprintf("a run of %v for up to %d rows", fixed.Of(fixedRows), fixedRows), process: p,
		socket: socket, model: fixedName, rows: 1, rowBytes: 4 * fixedcost.Columns, outstanding: 4 * fixedRows,
	}, err
}

// realModels serve the same model, each by a picketd of its own.
func (s *settings) realModels() []serve {
	first := func(ctx context.Context, dir string) (*subject, error) { return s.realModel(ctx, dir, s.picketd, "") }
	if s.against == "" {
		return []serve{first}
	}
	return []serve{first, func(ctx context.Context, dir string) (*subject, error) {
		return s.realModel(ctx, dir, s.against, " (-against)")
	}}
}

func (s *settings) realModel(ctx context.Context, dir, picketd, which string) (*subject, error) {
	m := models.Model{Name: "500x6x30", Dir: s.artifact, Features: 30}
	var err error
	if s.artifact == "" {
		if m, err = models.Trained(ctx, 500, 6, 30); err != nil {
			return nil, err
		}
	}
	if picketd == "" {
		if picketd, err = versus.BuildDaemon(ctx, dir); err != nil {
			return nil, err
		}
	}
	own, setting, how := "", "", ""
	if s.apart {
		all, err := hw.ThreadCPUs(0)
		if err != nil {
			return nil, err
		}
		if len(all) < 2 {
			return nil, errors.New("-apart takes two processors")
		}
		last := len(all) - 1
		s.others = all[:last]
		own, setting, how = fmt.Sprintf("cores: %q\n", hw.FormatCPUs(s.others)), fmt.Sprintf(", cores: %q", hw.FormatCPUs(all[last:])), " on a processor of its own"
	}
	configuration := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf("unsigned: true\n%smodels:\n- {name: %s, path: %s, backend: treelite, instances: 1%s}\n", own, "forest", m.Dir, setting)
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing a configuration: %w", err)
	}
	p, err := s.start(ctx, dir, picketd, "--sockets", dir, "--config", configuration)
	if err != nil {
		return nil, err
	}
	return &subject{
		name: fmt.Sprintf("%s by treelite%s, %d rows a request%s", m.Name, how, realRows, which), process: p,
		socket: filepath.Join(dir, "lane.sock"), model: "forest", rows: realRows, rowBytes: 4 * m.Features, outstanding: 32,
	}, nil
}

func (s *settings) start(ctx context.Context, dir, program string, args ...string) (*versus.Process, error) {
	if s.cores != "" {
		return versus.Start(ctx, dir, "taskset", append([]string{"-c", s.cores, program}, args...)...)
	}
	return versus.Start(ctx, dir, program, args...)
}

// overload is what came of one load.
type overload struct {
	Server   string  `json:"server"`
	Arrivals string  `json:"arrivals"`
	Capacity float64 `json:"capacity_per_s"` // requests, as all figures here
	Seconds  float64 `json:"seconds"`
	Offered  int     `json:"offered"`
	OnTime   int     `json:"on_time"`
	Late     int     `json:"late"` // accepted, and answered after the deadline or not at all
	Refused  int     `json:"refused"`
	Unsent   int     `json:"unsent"` // by a generator that was late itself
	// RefusalP99US and AcceptedP99US count from when a request was due.
	RefusalP99US  float64 `json:"refusal_p99_us"`
	AcceptedP99US float64 `json:"accepted_p99_us"`
	SendP99US     float64 `json:"send_late_p99_us"` // of the generator
	RSSBefore     int64   `json:"rss_before_bytes"`
	RSSMost       int64   `json:"rss_most_bytes"`
	RecoveryUS    float64 `json:"recovery_us"`
	// Who had the processors while the server did what it can, and in the overload.
	InCapacity processors `json:"processors_in_capacity"`
	InOverload processors `json:"processors_in_overload"`
	// ServerCPUUS is the processors' time that the server took for each request in the overload, its model included, and LoadCPUUS the
	// load's. The floors are those of an empty server that refused as many.
	ServerCPUUS       float64 `json:"server_cpu_us"`
	LoadCPUUS         float64 `json:"load_cpu_us"`
	FloorServerCPUUS  float64 `json:"floor_server_cpu_us"`
	FloorLoadCPUUS    float64 `json:"floor_load_cpu_us"`
	FloorRefusalP99US float64 `json:"floor_refusal_p99_us"`
}

// one overloads servers of one kind, in turns, with each kind of arrivals.
func (s *settings) one(ctx context.Context, dir string, serves []serve, out *report.Report) (results []overload, err error) {
	random := rand.New(rand.NewPCG(1, 2))
	servers, conns := make([]*subject, len(serves)), make([][]*load.Pipeline, len(serves))
	for i, serve := range serves {
		own := filepath.Join(dir, strconv.Itoa(i))
		if err := os.MkdirAll(own, 0o700); err != nil {
			return nil, fmt.Errorf("making a folder for sockets: %w", err)
		}
		server, err := serve(ctx, own)
		if err != nil {
			return nil, err
		}
		defer server.process.Stop()
		servers[i] = server
		for range s.clients {
			conn, err := load.ConnectPipeline(server.socket, server.model, server.rows, server.rowBytes, random)
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			conns[i] = append(conns[i], conn)
		}
	}
	if s.others != nil { // from here on: the servers were started with all
		if err := hw.BindProcess(os.Getpid(), s.others); err != nil {
			return nil, err
		}
	}
	empty, err := s.startFloor(ctx, dir, servers[0], random)
	if err != nil {
		return nil, err
	}
	defer empty.stop()
	for range s.rounds {
		for _, kind := range []struct {
			name  string
			times func(*rand.Rand, float64, time.Duration) load.Arrivals
		}{{"Poisson", load.Poisson}, {"bursts", load.Bursts}} {
			for i, server := range servers {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				o, err := s.overload(server, conns[i], empty, random, kind.times)
				if err != nil {
					return nil, err
				}
				o.Arrivals = kind.name
				o.tell(out)
				results = append(results, o)
			}
		}
	}
	return results, nil
}

// The load before and after, of which a server should notice nothing.
const (
	capacityTime = 1500 * time.Millisecond // half of it before, half after
	lightTime    = 1500 * time.Millisecond
	lightly      = 0.3 // of capacity
)

// overload finds out what the server can do, asks for less, for more, and for less again
// without a pause, and finds out once more what it can do.
func (s *settings) overload(server *subject, conns []*load.Pipeline, empty *floor, random *rand.Rand, times func(*rand.Rand, float64, time.Duration) load.Arrivals) (o overload, err error) {
	o.Server, o.Seconds = server.name, float64(s.seconds)
	from, err := look(server.process)
	if err != nil {
		return o, err
	}
	before, err := load.ClosedLoop(conns, server.outstanding/len(conns), capacityTime/2)
	if err != nil {
		return o, err
	}
	to, err := look(server.process)
	if err != nil {
		return o, err
	}
	o.InCapacity = to.since(from)
	begin, end := lightTime, lightTime+time.Duration(s.seconds)*time.Second
	due := make([]load.Arrivals, len(conns))
	for i := range due {
		each := before / float64(len(conns))
		due[i] = load.Poisson(random, lightly*each, lightTime)
		for _, at := range times(random, s.times*each, end-begin) {
			due[i] = append(due[i], begin+at)
		}
		for _, at := range load.Poisson(random, lightly*each, lightTime) {
			due[i] = append(due[i], end+at)
		}
	}
	memory := watch(server.process.PID(), begin)
	shares := during(server.process, begin, end)
	requests, err := load.OpenLoop(conns, due, s.deadline)
	if o.RSSBefore, o.RSSMost = memory.stop(); err != nil {
		return o, err
	}
	if o.InOverload, err = shares(); err != nil {
		return o, err
	}
	after, err := load.ClosedLoop(conns, server.outstanding/len(conns), capacityTime/2)
	if err != nil {
		return o, err
	}
	o.Capacity = (before + after) / 2
	o.count(requests, begin, end, s.deadline)
	least, err := empty.measure(due, begin, end, s.deadline)
	if err != nil {
		return o, err
	}
	o.FloorServerCPUUS, o.FloorLoadCPUUS, o.FloorRefusalP99US = least.ServerCPUUS, least.LoadCPUUS, least.RefusalP99US
	return o, nil
}

// count fills in what became of the requests of one load, which was an overload from
// begin to end.
func (o *overload) count(all [][]load.Request, begin, end, deadline time.Duration) {
	var refusals, accepted, lateness []time.Duration
	for _, requests := range all {
		for i := range requests {
			r := &requests[i]
			if r.Due < begin || r.Due >= end {
				continue
			}
			o.Offered++
			lateness = append(lateness, r.Left-r.Due)
			switch {
			case r.Fate == load.Unsent:
				o.Unsent++
			case r.Fate == load.Refused:
				o.Refused++
				refusals = append(refusals, r.Took())
			case r.Fate == load.Answered && r.Took() <= deadline:
				o.OnTime++
				accepted = append(accepted, r.Took())
			default:
				o.Late++
				accepted = append(accepted, max(r.Took(), deadline))
			}
		}
	}
	o.RefusalP99US, o.AcceptedP99US, o.SendP99US = p99(refusals), p99(accepted), p99(lateness)
	o.RecoveryUS = us(recovery(all, begin, end))
	each := 1e6 * o.Seconds / float64(max(1, o.Offered))
	o.ServerCPUUS, o.LoadCPUUS = each*o.InOverload.Server, each*o.InOverload.Load
}

// window is how much of a load is looked at at a time to see whether it is normal.
const window = 50 * time.Millisecond

// recovery is how long after end the last window was that was not normal: one in
// which a request was not answered, or half took more than twice as long as half did
// before begin.
func recovery(all [][]load.Request, begin, end time.Duration) time.Duration {
	var before []time.Duration
	after := map[int][]time.Duration{} // by window
	var last time.Duration
	for _, requests := range all {
		for i := range requests {
			r := &requests[i]
			at := int((r.Due - end) / window)
			switch {
			case r.Fate == load.Unsent:
			case r.Due < begin && r.Fate == load.Answered:
				before = append(before, r.Took())
			case r.Due >= end && r.Fate == load.Answered:
				after[at] = append(after[at], r.Took())
			case r.Due >= end:
				last = max(last, time.Duration(at+1)*window)
			}
		}
	}
	if len(before) == 0 {
		return lightTime
	}
	normal := 2 * interleave.Median(before)
	for at, took := range after {
		if interleave.Median(took) > normal {
			last = max(last, time.Duration(at+1)*window)
		}
	}
	return last
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func p99(d []time.Duration) float64 {
	if len(d) == 0 {
		return 0
	}
	return us(interleave.Quantile(d, 0.99))
}

// tell adds what is promised of an overload.
func (o *overload) tell(out *report.Report) {
	name := func(what string) string { return fmt.Sprintf("%s, %s: %s", o.Server, o.Arrivals, what) }
	out.Reach(name(fmt.Sprintf("answered on time to the capacity of %.0f/s, asked for %.0f/s", o.Capacity, float64(o.Offered)/o.Seconds)),
		float64(o.OnTime)/o.Seconds/o.Capacity, leastGoodput)
	out.Tell(name("the same to what the processors left to the server could do"), float64(o.OnTime)/o.Seconds/(o.Capacity*o.InOverload.enough(o.InCapacity)), "ratio")
	out.Tell(name("the server had ("+o.InOverload.String()+")"), o.InOverload.Server, "processors")
	out.Tell(name("the server had without an overload ("+o.InCapacity.String()+")"), o.InCapacity.Server, "processors")
	out.Promise(name("refusals, 99 in 100"), o.RefusalP99US, "us", mostRefusal)
	out.Reach(name("on time to accepted"), float64(o.OnTime)/float64(max(1, o.OnTime+o.Late)), leastOnTime)
	out.Promise(name("memory to that before"), float64(o.RSSMost)/float64(max(1, o.RSSBefore)), "ratio", mostMemory)
	out.Promise(name("until all is normal again"), o.RecoveryUS, "us", mostRecovery)
	out.Tell(name("the server's time for a request"), o.ServerCPUUS, "us")
	out.Tell(name("an empty server's"), o.FloorServerCPUUS, "us")
	out.Tell(name("the load's time for a request"), o.LoadCPUUS, "us")
	out.Tell(name("the load's with an empty server"), o.FloorLoadCPUUS, "us")
	out.Tell(name("refusals of an empty server, 99 in 100"), o.FloorRefusalP99US, "us")
	out.Tell(name("how late the generator was, 99 in 100"), o.SendP99US, "us")
}

// watched is the memory of a process.
type watched struct {
	before, most int64
	quit, ended  chan struct{}
}

// watch looks at how much memory a process has, before and after so long.
func watch(pid int, begin time.Duration) *watched {
	w := &watched{quit: make(chan struct{}), ended: make(chan struct{})}
	start := time.Now()
	go func() {
		defer close(w.ended)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			now := resident(pid)
			if time.Since(start) < begin {
				w.before = max(w.before, now)
			}
			w.most = max(w.most, now)
			select {
			case <-ticker.C:
			case <-w.quit:
				return
			}
		}
	}()
	return w
}

func (w *watched) stop() (before, most int64) {
	close(w.quit)
	<-w.ended
	return w.before, w.most
}

// resident is how many bytes of a process are in memory, 0 if it is gone.
func resident(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	var kib int64
	if _, after, found := strings.Cut(string(data), "VmRSS:"); found {
		_, _ = fmt.Sscan(after, &kib) // 0 where it is no number
	}
	return kib << 10
}

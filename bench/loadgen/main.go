// Command loadgen has MLPerf Inference's own load generator and the one of `picket bench run` drive one lane in turns, with the same model,
// rows and definitions, and says how far their figures of SingleStream and Offline are apart. JSON goes to standard output.
//
// There are four sides. MLPerf's generator, compiled from its sources by install.sh, drives the lane through the C client, and so does the
// suite's: what is between the two is between the generators. In SingleStream MLPerf's program does so once more with a bare loop in the place of the
// generator: what is between that and the first is what the generator's own work between two requests adds to them, which no other generator is to have.
// The suite's drives it once more with callers in Go, as those of open loads are: what is between that and the suite's is Go's. Each side compares every answer with the reference while it is timed.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/synthetic"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/internal/hw"
)

// The model and the loads are those of suite local.
var model = synthetic.Model{Name: "forest-500x6x30", Trees: 500, Depth: 6, Features: 30}

const (
	testRows = 4096
	batch    = 512                   // rows of a request of scenario Offline
	callers  = 4                     // there
	warmUp   = 30 * time.Millisecond // and mlperf/drive.cc's
	mostOff  = 0.05                  // what the figures may be apart
)

// The sides.
const (
	theirs = "MLPerf's generator"
	bare   = "MLPerf's program, a loop in the generator's place"
	ours   = "the suite's generator"
	inGo   = "the suite's generator, callers in Go"
)

// sides are those of a scenario.
func sides(scenario string) []string {
	if scenario == "Offline" {
		return []string{theirs, ours, inGo}
	}
	return []string{theirs, bare, ours, inGo}
}

// figures are what a side finds in one turn.
type figures struct {
	P50 float64 `json:"p50_ns"`
	P90 float64 `json:"p90_ns"`
	// Between is what the generator does between an answer and the next request, which the processor's caches notice.
	Between float64 `json:"between_ns"`
	RowsS   float64 `json:"rows_per_s"`
}

// placement is where the two sides of a lane run. Where the system puts them is a matter of chance that lasts for many requests: on one
// processor a request and its answer are two changes of context, on two they are two wake-ups of an idle processor, which a virtual
// machine takes tens of microseconds for. Two generators can only be compared where both are placed alike.
type placement struct {
	scenario, name  string
	server, clients []int
}

// placements are those of SingleStream, which has a caller and a server that take turns, and of Offline, which fills what there is.
func placements() ([]placement, error) {
	all, err := hw.ThreadCPUs(0)
	if err != nil {
		return nil, err
	}
	found := []placement{{"SingleStream", "on one processor", all[:1], all[:1]}}
	if len(all) > 1 {
		found = append(found, placement{"SingleStream", "a processor each", all[:1], all[1:2]})
	}
	return append(found, placement{"Offline", "", all, all}), nil
}

// place keeps the daemon and this process, which the driver inherits it from, where the placement says.
func (b *bench) place(p placement) error {
	pids, err := b.daemon.PIDs()
	if err != nil {
		return err
	}
	err = hw.BindProcess(os.Getpid(), p.clients)
	for _, pid := range pids {
		err = errors.Join(err, hw.BindProcess(pid, p.server))
	}
	return err
}

// number is one of the figures.
type number struct {
	scenario, name, unit string
	promised             bool // to be like MLPerf's
	of                   func(f figures) float64
}

var numbers = []number{
	{"SingleStream", "median latency", "ns", true, func(f figures) float64 { return f.P50 }},
	{"SingleStream", "90th percentile latency", "ns", true, func(f figures) float64 { return f.P90 }},
	{"SingleStream", "time between an answer and the next request", "ns", false, func(f figures) float64 { return f.Between }},
	{"Offline", "rows a second", "rows/s", true, func(f figures) float64 { return f.RowsS }},
}

// found is what is written of a number and a side: the median of the turns, and of the ratios to MLPerf's of the same turns, and to those of the bare loop
// in its place.
type found struct {
	Scenario string          `json:"scenario"`
	Placed   string          `json:"placed,omitempty"`
	Number   string          `json:"number"`
	Unit     string          `json:"unit"`
	Side     string          `json:"side"`
	Value    report.Estimate `json:"value"`
	Ratio    report.Estimate `json:"ratio"`
	ToBare   report.Estimate `json:"ratio_to_bare_loop"`
	// Best is the best of the turns, which is decided by the generator and the processor nearly alone.
	Best float64 `json:"best,omitempty"`
}

type bench struct {
	driver, picketd string
	only            string
	turns           int
	length          time.Duration

	dir, rowsFile string
	daemon        *target.Daemon
	served        target.Served
	expected      float64 // samples a second of scenario Offline
	clock         time.Duration
}

func main() {
	b := &bench{}
	flag.StringVar(&b.driver, "driver", ".cache/loadgen/drive", "the program that install.sh makes")
	flag.StringVar(&b.picketd, "picketd", "bin/picketd", "the daemon's program")
	flag.IntVar(&b.turns, "turns", 60, "how often each side has its turn in each scenario; an interval of 95% takes six")
	flag.DurationVar(&b.length, "length", 100*time.Millisecond, "how long a turn of SingleStream takes, and a third of one of Offline: short, so that the machine is the same for all sides")
	flag.StringVar(&b.only, "only", "", "measure only this scenario: SingleStream or Offline")
	program.Main("loadgen", b.run)
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.turns < 1 || b.length <= 0 {
		return errors.New("-turns and -length are to be above 0")
	}
	if b.dir, err = os.MkdirTemp("", "picket-loadgen-*"); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.clock = load.ClockCost()
	if err := b.prepare(); err != nil {
		return err
	}
	if b.daemon, err = target.StartDaemon(ctx, filepath.Join(b.dir, "picketd"), []target.Served{b.served}, target.DaemonOptions{Program: b.picketd}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.daemon.Stop()) }()
	out := report.New()
	var results []found
	places, err := placements()
	if err != nil {
		return err
	}
	for _, p := range places {
		if b.only != "" && b.only != p.scenario {
			continue
		}
		if err := b.place(p); err != nil {
			return err
		}
		all, err := b.scenario(ctx, p.scenario)
		if err != nil {
			return err
		}
		results = append(results, judge(p, all, out)...)
	}
	out.Results = results
	return out.Write()
}

// prepare makes the model, and the rows with their answers as the driver reads them.
func (b *bench) prepare() error {
	dir := filepath.Join(b.dir, "model")
	file, err := model.Write(dir)
	if err != nil {
		return err
	}
	m, err := target.ReadModel(model.Name, dir, file, testRows)
	if err != nil {
		return err
	}
	b.served = target.Served{Model: m}
	data, row := m.Rows.Data.Bytes(), 4*model.Features
	var rows []byte
	for i, answer := range m.Rows.Answers {
		rows = binary.LittleEndian.AppendUint32(append(rows, data[i*row:(i+1)*row]...), math.Float32bits(answer))
	}
	b.rowsFile = filepath.Join(b.dir, "rows")
	if err := os.WriteFile(b.rowsFile, rows, 0o600); err != nil {
		return fmt.Errorf("writing the rows: %w", err)
	}
	return nil
}

// scenario has the sides take turns, in random order anew each time.
func (b *bench) scenario(ctx context.Context, scenario string) (map[string][]figures, error) {
	taking := sides(scenario)
	all := map[string][]figures{}
	random := rand.New(rand.NewPCG(1, 1))
	if scenario == "Offline" {
		first, err := b.suite(ctx, ours, scenario, 0)
		if err != nil {
			return nil, err
		}
		b.expected = first.RowsS / batch
	}
	for turn := range b.turns {
		for _, i := range random.Perm(len(taking)) {
			f, err := b.turn(ctx, taking[i], scenario, uint64(turn))
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", scenario, taking[i], err)
			}
			all[taking[i]] = append(all[taking[i]], f)
		}
	}
	return all, nil
}

// lasts is how long a turn takes. One of Offline is longer: MLPerf counts its beginning and its end, when not all callers have something to do.
func (b *bench) lasts(scenario string) time.Duration {
	if scenario == "Offline" {
		return 3 * b.length
	}
	return b.length
}

func (b *bench) turn(ctx context.Context, side, scenario string, seed uint64) (figures, error) {
	switch side {
	case theirs:
		return b.drive(ctx, scenario)
	case bare:
		return b.drive(ctx, "Loop")
	}
	return b.suite(ctx, side, scenario, seed)
}

// drive has the driver take a turn.
func (b *bench) drive(ctx context.Context, scenario string) (f figures, err error) {
	ask := b.daemon.Ask("lane", b.served, 1)
	c := exec.CommandContext(ctx, b.driver, ask.Address, ask.Model, b.rowsFile, strconv.Itoa(model.Features), scenario,
		fmt.Sprint(b.lasts(scenario).Seconds()), fmt.Sprint(b.expected), b.dir)
	c.Stderr = os.Stderr
	said, err := c.Output()
	if err != nil {
		return f, fmt.Errorf("running %s, which bench/loadgen/install.sh makes: %w", b.driver, err)
	}
	if err := json.Unmarshal(said, &f); err != nil {
		return f, fmt.Errorf("reading what %s found: %w", b.driver, err)
	}
	return f, nil
}

// suite takes a turn as `picket bench run` does.
func (b *bench) suite(ctx context.Context, side, scenario string, seed uint64) (f figures, err error) {
	rows, n := 1, 1
	if scenario == "Offline" {
		rows, n = batch, callers
	}
	ask := b.daemon.Ask("lane", b.served, rows)
	p := load.Plan{Rows: rows, WarmUp: warmUp, Duration: b.lasts(scenario), Clock: b.clock, Seed: seed}
	closeAll := func() (all error) {
		for _, c := range p.Clients {
			all = errors.Join(all, c.Close())
		}
		return all
	}
	for range n {
		var c protocols.Client
		if c, err = ask.Lane(1)(); err != nil {
			return f, errors.Join(err, closeAll())
		}
		if side == inGo {
			c = struct{ protocols.Client }{c} // which cannot do what it does not show
		}
		p.Clients = append(p.Clients, c)
	}
	m, err := load.Run(ctx, p)
	if err := errors.Join(err, closeAll()); err != nil {
		return f, err
	}
	if err := errors.Join(m.Wrong, m.Failed); err != nil {
		return f, err
	}
	if scenario == "Offline" {
		return figures{RowsS: m.PerSecond() * batch}, nil
	}
	return figures{P50: float64(m.Latency.Quantile(0.5)), P90: float64(m.Latency.Quantile(0.9)), Between: 1e9/m.PerSecond() - m.Latency.Mean()}, nil
}

// judge says how far the sides are from MLPerf's generator.
func judge(p placement, all map[string][]figures, out *report.Report) []found {
	var results []found
	for _, n := range numbers {
		if n.scenario != p.scenario {
			continue
		}
		where := p.scenario
		if p.name != "" {
			where += ", " + p.name
		}
		for _, side := range sides(p.scenario) {
			var values, ratios, toBare []float64
			for turn, f := range all[side] {
				values = append(values, n.of(f))
				ratios = append(ratios, n.of(f)/n.of(all[theirs][turn]))
				if b := all[bare]; b != nil {
					toBare = append(toBare, n.of(f)/n.of(b[turn]))
				}
			}
			r := found{p.scenario, p.name, n.name, n.unit, side, stats.Estimate(values), stats.Estimate(ratios), stats.Estimate(toBare), 0}
			switch {
			case n.unit == "rows/s":
				r.Best = slices.Max(values)
			case n.promised:
				r.Best = slices.Min(values)
			}
			results = append(results, r)
			what := fmt.Sprintf("%s, %s: %s", where, n.name, side)
			out.Tell(what, r.Value.Value, n.unit)
			if side == theirs || !n.promised {
				continue
			}
			what = fmt.Sprintf("%s, ÷ MLPerf's of the same turn (%.3f to %.3f), distance from 1", what, r.Ratio.Low, r.Ratio.High)
			if off := math.Abs(r.Ratio.Value - 1); side == ours {
				out.Promise(what, off, "ratio", mostOff)
				if len(toBare) > 0 {
					out.Tell(fmt.Sprintf("%s, %s: %s, ÷ the loop's of the same turn (%.3f to %.3f), distance from 1", where, n.name, side, r.ToBare.Low, r.ToBare.High), math.Abs(r.ToBare.Value-1), "ratio")
				}
			} else {
				out.Tell(what, off, "ratio")
			}
		}
	}
	return results
}

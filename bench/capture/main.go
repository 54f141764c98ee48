// Command capture measures what capturing costs predictions over the lane: daemons that capture nothing, a tenth, or all of their
// requests take turns of a fraction of a second, in another order each round, and all but one are stopped meanwhile. JSON goes to
// standard output.
//
// What is told is the median of what the rounds say, each of which compares daemons that had ten turns each in the same few seconds, and the
// interval that has it with 95% confidence: how fast a machine that others share is changes by a half from one minute to the next. Each round has
// daemons that were started for it, because one process is a percent or two faster than the next of the same program, for as long as it runs.
//
// Two of the daemons capture nothing: what the second is beside the first is what the machine's noise makes of no difference at all,
// in the same turns. In one more turn of each round this program itself copies, sums up and writes as many bytes as a daemon that captures
// everything, and nothing else: below that nobody gets who keeps them.
//
// Pipelined, clients send 128 requests each with one write and wait for all answers: that gives the throughput. With clients and
// daemon on one processor, which is never idle, the rate is one by the processor's time for a row, whoever spends it, and nothing depends on where
// the system puts whom; so the promise is judged there, and by that time, of which other programs take nothing. With one request outstanding a client waits for each answer: that gives p99,
// of all requests of ten turns, which are a second of each daemon's time: it writes what it has captured once in that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/hw"
)

// What is promised.
const (
	leastThroughput = 0.95 // of that without capturing, with all requests captured
	mostP99         = 1.02 // times that without capturing, with a tenth captured
)

// different is how many rows the clients choose from.
const different = 1000

var (
	only    = flag.String("only", "", "of throughput, placements and p99, what is measured; empty: all")
	picketd = flag.String("picketd", "", "the daemon's program; empty: it is built")
	before  = flag.String("before", "", "another program of the daemon, which captures a tenth and all, too: what a change is worth")
	share   = flag.Float64("share", 1, "how much of the usual number of rounds")
)

func main() { program.Main("bench-capture", run) }

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	built := *picketd
	if built == "" {
		if built, err = versus.BuildDaemon(ctx, dir); err != nil {
			return err
		}
	}
	m := models.Fixture()
	data, err := testrows.New(m.Features)
	if err != nil {
		return err
	}
	defer data.Buffer.Release()
	// Few, so that what the clients themselves fetch from memory is not the most of what is measured.
	ask := protocols.Ask{Model: m.Name, Rows: &protocols.Rows{Data: data.Rows(0, different)}, Count: 1}

	daemons := []*daemon{
		{name: "nothing captured", program: built}, {name: "nothing captured, again", program: built},
		{name: "a tenth captured", captured: 0.1, program: built}, {name: "all captured", captured: 1, program: built},
	}
	if *before != "" {
		daemons = append(daemons,
			&daemon{name: "a tenth captured by the other program", captured: 0.1, program: *before}, &daemon{name: "all captured by the other program", captured: 1, program: *before})
	}
	floor, err := newFloor(filepath.Join(dir, "floor"), 4*m.Features)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.close()) }()

	wanted, err := loads()
	if err != nil {
		return err
	}
	out := report.New()
	results := map[string][]series{}
	for i, l := range wanted {
		some := daemons[:min(len(daemons), l.daemons)]
		measured, err := l.run(ctx, filepath.Join(dir, strconv.Itoa(i)), some, m, ask, floor)
		if err != nil {
			return err
		}
		results[l.name] = measured
		l.figures(out, daemons, measured)
	}
	out.Results = results
	return out.Write()
}

// loads are what is asked for by -only.
func loads() ([]load, error) {
	cpus, err := hw.ThreadCPUs(0)
	if err != nil {
		return nil, err
	}
	last := cpus[len(cpus)-1:]
	one := placement{last, last}
	apart := placement{cpus[:1], last}
	const many, few = 1 << 10, 3 // daemons
	all := []load{
		{name: "128 at once, all on one processor", part: "throughput", clients: 1, window: 128, turn: 40 * time.Millisecond, warmUp: 10 * time.Millisecond, turns: 10, rounds: 1, lives: 30, placed: one, daemons: many, floor: true, judged: true},
		{name: "128 at once, a processor for each side", part: "placements", clients: 1, window: 128, turn: 40 * time.Millisecond, warmUp: 10 * time.Millisecond, turns: 10, rounds: 1, lives: 12, placed: apart, daemons: many},
		{name: "256 at once, of two clients, on all processors", part: "placements", clients: 2, window: 128, turn: 40 * time.Millisecond, warmUp: 10 * time.Millisecond, turns: 10, rounds: 1, lives: 12, placed: placement{cpus, cpus}, daemons: many},
		// Without a warm-up, in which a daemon would write what had come due while it was stopped.
		{name: "one after the other, all on one processor", part: "p99", clients: 1, window: 1, turn: 100 * time.Millisecond, turns: 10, rounds: 1, lives: 40, placed: one, daemons: few, judged: true},
		{name: "one after the other, a processor for each side", part: "p99", clients: 1, window: 1, turn: 100 * time.Millisecond, turns: 10, rounds: 1, lives: 40, placed: apart, daemons: few, judged: true},
	}
	var chosen []load
	for _, l := range all {
		if *only == "" || strings.Contains(*only, l.part) {
			if l.lives > 1 {
				l.lives = max(6, int(float64(l.lives)**share))
			} else {
				l.rounds = max(6, int(float64(l.rounds)**share))
			}
			chosen = append(chosen, l)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-only %q is none of throughput, placements and p99", *only)
	}
	return chosen, nil
}

// start starts the daemon with a folder of its own. It has a turn in so many.
func (d *daemon) start(ctx context.Context, dir string, turns int, m models.Model, ask protocols.Ask) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	text := fmt.Sprintf("unsigned: true\nstate_dir: %s/state\nmodels: [{name: %s, path: %s}]\n", dir, m.Name, m.Dir)
	if d.captured > 0 {
		// A second of its own turns is the usual time; the clock goes on in those of others.
		text += fmt.Sprintf("capture: {enabled: true, flush_after: %ds}\nmodel_defaults: {capture: {rate: %g}}\n", turns, d.captured)
	}
	config := filepath.Join(dir, "picketd.yaml")
	err := os.WriteFile(config, []byte(text), 0o600)
	if err != nil {
		return fmt.Errorf("writing a configuration: %w", err)
	}
	d.ask = ask
	d.ask.Address = filepath.Join(dir, "lane.sock")
	d.process, err = versus.Start(ctx, dir, d.program, "--config", config, "--sockets", dir)
	return err
}

func (d *daemon) stop() {
	_ = d.signal(syscall.SIGCONT) // what has ended says so below
	d.process.Stop()
}

// series are the turns of one daemon, or of the floor, one a round.
type series struct {
	Name  string `json:"name"`
	Turns []turn `json:"turns"`
}

// again is the second daemon that captures nothing.
const again = 1

// perRow, rate, p50 and p99 are figures of a turn.
func perRow(t turn) float64 { return float64(t.Daemon+t.Clients) / float64(t.Requests) }
func rate(t turn) float64   { return float64(t.Requests) / t.Took.Seconds() }
func p50(t turn) float64    { return float64(t.P50) / 1e3 }
func p99(t turn) float64    { return float64(t.P99) / 1e3 }

// Ways of putting a figure together with that of a daemon that captures nothing.
func ratio(it, nothing float64) float64      { return it / nothing }
func inverse(it, nothing float64) float64    { return nothing / it }
func difference(it, nothing float64) float64 { return it - nothing }
func alone(it, _ float64) float64            { return it }

// beside puts the figure of one daemon together with that of the first or, for one that captures, that of both that capture nothing, round by round.
func beside(all []series, of int, figure func(turn) float64, together func(it, nothing float64) float64) report.Estimate {
	rounds := make([]float64, len(all[of].Turns))
	for i, t := range all[of].Turns {
		nothing := figure(all[0].Turns[i])
		if of > again {
			nothing = (nothing + figure(all[again].Turns[i])) / 2
		}
		rounds[i] = together(figure(t), nothing)
	}
	return stats.Estimate(rounds)
}

// figures says what each daemon is beside the first, which captures nothing.
func (l load) figures(out *report.Report, daemons []*daemon, all []series) {
	out.Tell(fmt.Sprintf("%s: nothing captured: rows/s", l.name), math.Round(beside(all, 0, rate, alone).Value), "")
	out.Tell("  processors' time a row, daemon and clients", math.Round(beside(all, 0, perRow, alone).Value), "ns")
	if l.window == 1 {
		out.Tell("  p50", beside(all, 0, p50, alone).Value, "us")
		out.Tell("  p99", beside(all, 0, p99, alone).Value, "us")
	}
	for i := 1; i < len(all); i++ {
		captured := 0.0
		if i < len(daemons) {
			captured = daemons[i].captured
		}
		says := func(what string, e report.Estimate) string {
			return fmt.Sprintf("  %s: %s (%.3f to %.3f with %.0f%% confidence, %d rounds)", all[i].Name, what, e.Low, e.High, 100*e.Confidence, e.N)
		}
		cost := beside(all, i, perRow, ratio)
		if all[i].Name == floorName {
			takes := beside(all, i, perRow, alone)
			out.Tell(says("processors' time a row", takes), takes.Value, "ns")
			out.Tell(says("to all of a row's", cost), cost.Value, "ratio")
			continue
		}
		extra := beside(all, i, perRow, difference)
		out.Tell(says("processors' time a row, to that with nothing", cost), cost.Value, "ratio")
		out.Tell(says("the same, more", extra), extra.Value, "ns")
		if captured > 0 && captured < 1 {
			out.Tell("  the same, for a row that is captured", extra.Value/captured, "ns")
		}
		rates := beside(all, i, rate, ratio)
		out.Tell(says("rows/s, to those with nothing", rates), rates.Value, "ratio")
		if l.judged && l.window > 1 && captured == 1 && daemons[i].program == daemons[0].program {
			kept := beside(all, i, perRow, inverse)
			out.Reach(says("rows a second of the processors' own time, to those with nothing", kept)+": "+verdict(kept.Low >= leastThroughput, kept.High < leastThroughput), kept.Value, leastThroughput)
		}
		if l.window > 1 {
			continue
		}
		medians := beside(all, i, p50, ratio)
		out.Tell(says("p50, to that with nothing", medians), medians.Value, "ratio")
		tails := beside(all, i, p99, ratio)
		if name := "p99, to that with nothing"; l.judged && captured > 0 && captured < 1 {
			out.Promise(says(name, tails)+": "+verdict(tails.High <= mostP99, tails.Low > mostP99), tails.Value, "ratio", mostP99)
		} else {
			out.Tell(says(name, tails), tails.Value, "ratio")
		}
	}
}

// verdict says what an interval shows.
func verdict(met, missed bool) string {
	switch {
	case met:
		return "met"
	case missed:
		return "missed"
	}
	return "not decided, the promise lies between"
}

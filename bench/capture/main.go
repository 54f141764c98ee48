// Command capture measures what capturing costs predictions over the lane: daemons that capture nothing, a tenth, or all of their
// requests take turns of a fraction of a second, in another order each round, and all but one are stopped meanwhile. JSON goes to
// standard output.
//
// Two of the daemons capture nothing: what the second is beside the first is what the machine's noise makes of no difference at all,
// in the same turns. In one more turn of each round this program itself copies, sums up and writes as many bytes as a daemon that captures
// everything, and nothing else: below that nobody gets who keeps them.
//
// Pipelined, clients send 128 requests each with one write and wait for all answers: that gives the throughput. With clients and
// daemon on one processor, which is never idle, the rate is one by the processor's time for a row, whoever spends it, and nothing depends on where
// the system puts whom; so the promise is judged there. With one request outstanding a client waits for each answer: that gives p99.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
)

// What is promised.
const (
	leastThroughput = 0.95 // of that without capturing, with all requests captured
	mostP99         = 1.02 // times that without capturing, with a tenth captured
)

var (
	only    = flag.String("only", "", "of throughput, placements and p99, what is measured; empty: all")
	picketd = flag.String("picketd", "", "the daemon's program; empty: it is built")
	before  = flag.String("before", "", "another program of the daemon, of which one more captures everything: what a change is worth")
	share   = flag.Float64("share", 1, "how much of the usual number of rounds")
	allRows = flag.Float64("all", 1, "the fraction that the daemon captures that captures all")
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
	ask := protocols.Ask{Model: m.Name, Rows: &protocols.Rows{Data: data}, Count: 1}

	daemons := []*daemon{
		{name: "nothing captured", program: built}, {name: "nothing captured, again", program: built},
		{name: "a tenth captured", captured: 0.1, program: built}, {name: "all captured", captured: *allRows, program: built},
	}
	if *before != "" {
		daemons = append(daemons, &daemon{name: "all captured by the other program", captured: *allRows, program: *before})
	}
	for i, d := range daemons {
		if err := d.start(ctx, filepath.Join(dir, fmt.Sprint(i)), m, ask); err != nil {
			return err
		}
		defer d.stop()
	}
	floor, err := newFloor(filepath.Join(dir, "floor"), 4*m.Features)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.close()) }()

	loads, err := loads()
	if err != nil {
		return err
	}
	out := report.New()
	results := map[string][]series{}
	for _, l := range loads {
		measured, err := l.run(ctx, daemons[:min(len(daemons), l.daemons)], floor)
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
	cpus, err := process.Allowed()
	if err != nil {
		return nil, err
	}
	last := cpus[len(cpus)-1:]
	one := placement{last, last}
	apart := placement{cpus[:1], last}
	const many, quick = 1 << 10, 3 // daemons
	all := []load{
		{name: "128 at once, all on one processor", part: "throughput", clients: 1, window: 128, turn: 40 * time.Millisecond, rounds: 240, placed: one, daemons: many, floor: true, judged: true},
		{name: "128 at once, a processor for each side", part: "placements", clients: 1, window: 128, turn: 40 * time.Millisecond, rounds: 120, placed: apart, daemons: many},
		{name: "256 at once, of two clients, on all processors", part: "placements", clients: 2, window: 128, turn: 40 * time.Millisecond, rounds: 120, placed: placement{cpus, cpus}, daemons: many},
		// A daemon writes what it has captured once a second at the latest, so a turn of a second has such a moment as every second has.
		{name: "one after the other, all on one processor", part: "p99", clients: 1, window: 1, turn: time.Second, rounds: 40, placed: one, daemons: quick, judged: true},
		{name: "one after the other, a processor for each side", part: "p99", clients: 1, window: 1, turn: time.Second, rounds: 40, placed: apart, daemons: quick, judged: true},
	}
	var chosen []load
	for _, l := range all {
		if *only == "" || strings.Contains(*only, l.part) {
			l.rounds = max(6, int(float64(l.rounds)**share))
			chosen = append(chosen, l)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-only %q is none of throughput, placements and p99", *only)
	}
	return chosen, nil
}

// start starts the daemon with a folder of its own.
func (d *daemon) start(ctx context.Context, dir string, m models.Model, ask protocols.Ask) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	text := fmt.Sprintf("unsigned: true\nstate_dir: %s/state\nmodels: [{name: %s, path: %s}]\n", dir, m.Name, m.Dir)
	if d.captured > 0 {
		text += fmt.Sprintf("capture: {enabled: true}\nmodel_defaults: {capture: {rate: %g}}\n", d.captured)
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

// perRow is the processors' time for a row, of the daemon and of its clients.
func (t turn) perRow() float64 { return float64(t.Daemon+t.Clients) / float64(t.Requests) }

func (t turn) rate() float64 { return float64(t.Requests) / t.Took.Seconds() }

func (t turn) p50() float64 { return float64(t.P50) / 1e3 }

func (t turn) p99() float64 { return float64(t.P99) / 1e3 }

// beside puts together f of each turn and, of the same round, that of the first daemon or, for one that captures, those of both that
// capture nothing: what all rounds have in the middle, and between what it lies with a confidence of at least 95%.
func beside(all []series, of int, f func(turn) float64, together func(it, nothing float64) float64) report.Estimate {
	var each []float64
	for round, t := range all[of].Turns {
		nothing := f(all[0].Turns[round])
		if of > again {
			nothing = (nothing + f(all[again].Turns[round])) / 2
		}
		each = append(each, together(f(t), nothing))
	}
	return stats.Middle(each)
}

// again is the second daemon that captures nothing.
const again = 1

// ratio is beside of ratios, by their logarithms: twice and half are as far from the same.
func ratio(all []series, of int, f func(turn) float64) report.Estimate {
	e := beside(all, of, f, func(it, nothing float64) float64 { return math.Log(it / nothing) })
	e.Value, e.Low, e.High = math.Exp(e.Value), math.Exp(e.Low), math.Exp(e.High)
	return e
}

func difference(it, nothing float64) float64 { return it - nothing }
func alone(it, _ float64) float64            { return it }

// figures says what each daemon is beside the first, which captures nothing.
func (l load) figures(out *report.Report, daemons []*daemon, all []series) {
	out.Tell(fmt.Sprintf("%s: nothing captured: rows/s", l.name), math.Round(beside(all, 0, turn.rate, alone).Value), "")
	out.Tell("  processors' time a row, daemon and clients", math.Round(beside(all, 0, turn.perRow, alone).Value), "ns")
	if l.window == 1 {
		out.Tell("  p50", beside(all, 0, turn.p50, alone).Value, "us")
		out.Tell("  p99", beside(all, 0, turn.p99, alone).Value, "us")
	}
	for i := 1; i < len(all); i++ {
		captured := 0.0
		if i < len(daemons) {
			captured = daemons[i].captured
		}
		says := func(what string, e report.Estimate) string {
			return fmt.Sprintf("  %s: %s (%.3f to %.3f with %.0f%% confidence, %d rounds)", all[i].Name, what, e.Low, e.High, 100*e.Confidence, e.N)
		}
		cost := ratio(all, i, turn.perRow)
		if all[i].Name == floorName {
			takes := beside(all, i, turn.perRow, alone)
			out.Tell(says("processors' time a row", takes), takes.Value, "ns")
			out.Tell(says("to all of a row's", cost), cost.Value, "ratio")
			continue
		}
		extra := beside(all, i, turn.perRow, difference)
		out.Tell(says("processors' time a row, to that with nothing", cost), cost.Value, "ratio")
		out.Tell(says("the same, more", extra), extra.Value, "ns")
		if captured > 0 && captured < 1 {
			out.Tell("  the same, for a row that is captured", extra.Value/captured, "ns")
		}
		rates := ratio(all, i, turn.rate)
		if name := "rows/s, to those with nothing"; l.judged && l.window > 1 && captured == 1 {
			out.Reach(says(name, rates)+": "+verdict(rates.Low >= leastThroughput, rates.High < leastThroughput), rates.Value, leastThroughput)
		} else {
			out.Tell(says(name, rates), rates.Value, "ratio")
		}
		if l.window > 1 {
			continue
		}
		medians := ratio(all, i, turn.p50)
		out.Tell(says("p50, to that with nothing", medians), medians.Value, "ratio")
		tails := ratio(all, i, turn.p99)
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

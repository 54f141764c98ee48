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
// the system puts whom; so the promise is judged there, and by that time, of which other programs take nothing. With one request outstanding a client waits for each answer: that gives p99.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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

	wanted, err := loads()
	if err != nil {
		return err
	}
	out := report.New()
	results := map[string][]series{}
	for _, l := range wanted {
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

// clientsPerRow is the processors' time for a row of the clients alone.
func (t turn) clientsPerRow() float64 { return float64(t.Clients) / float64(t.Requests) }

// again is the second daemon that captures nothing.
const again = 1

// quietShare is how many of a daemon's turns count: those in which the clients, who do the same whatever is captured, took the least of the
// processors for a row. What else the machine has to do, the neighbours of a virtual one too, takes time from both sides; which
// turns it spares says the side that is not in question.
const quietShare = 0.25

func quiet(turns []turn) []turn {
	sorted := slices.Clone(turns)
	slices.SortFunc(sorted, func(a, b turn) int { return cmp.Compare(a.clientsPerRow(), b.clientsPerRow()) })
	return sorted[:max(3, int(quietShare*float64(len(sorted))))]
}

// perRow, rate, p50 and p99 are figures of turns together.
func perRow(turns []turn) float64 {
	var took, rows float64
	for _, t := range turns {
		took, rows = took+float64(t.Daemon+t.Clients), rows+float64(t.Requests)
	}
	return took / rows
}

func rate(turns []turn) float64 {
	var took, rows float64
	for _, t := range turns {
		took, rows = took+t.Took.Seconds(), rows+float64(t.Requests)
	}
	return rows / took
}

func p50(turns []turn) float64 { return median(turns, func(t turn) time.Duration { return t.P50 }) }
func p99(turns []turn) float64 { return median(turns, func(t turn) time.Duration { return t.P99 }) }

func median(turns []turn, of func(turn) time.Duration) float64 {
	var all []float64
	for _, t := range turns {
		all = append(all, float64(of(t))/1e3)
	}
	return stats.Median(all)
}

// Ways of putting a figure together with that of a daemon that captures nothing.
func ratio(it, nothing float64) float64      { return it / nothing }
func inverse(it, nothing float64) float64    { return nothing / it }
func difference(it, nothing float64) float64 { return it - nothing }
func alone(it, _ float64) float64            { return it }

// beside puts the figure of the quiet turns of one daemon together with that of the first or, for one that captures, that of both that
// capture nothing, and says between what it lies with a confidence of 95%: by what becomes of it when turns are drawn anew from
// those that were seen, a thousand times.
func beside(all []series, of int, figure func([]turn) float64, together func(it, nothing float64) float64) report.Estimate {
	random := rand.New(rand.NewPCG(1, uint64(of)))
	draw := func(turns []turn) []turn {
		drawn := make([]turn, len(turns))
		for i := range drawn {
			drawn[i] = turns[random.IntN(len(turns))]
		}
		return drawn
	}
	value := func(turns func(i int) []turn) float64 {
		nothing := figure(quiet(turns(0)))
		if of > again {
			nothing = (nothing + figure(quiet(turns(again)))) / 2
		}
		return together(figure(quiet(turns(of))), nothing)
	}
	const draws = 1000
	drawn := make([]float64, draws)
	for i := range drawn {
		drawn[i] = value(func(i int) []turn { return draw(all[i].Turns) })
	}
	return report.Estimate{
		Value: value(func(i int) []turn { return all[i].Turns }),
		Low:   stats.Quantile(drawn, 0.025), High: stats.Quantile(drawn, 0.975), N: len(all[of].Turns), Confidence: 0.95,
	}
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

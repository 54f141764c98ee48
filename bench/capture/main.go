// Command capture measures what capturing costs predictions over the lane: daemons that
// capture nothing, a tenth, or all of their requests take turns. All are processes of
// their own and share the cores with the clients. JSON goes to standard output.
//
// Two of the daemons capture nothing: what the second is beside the first is what the
// machine's noise makes of no difference at all, in the same turns.
//
// With one request outstanding a client waits for each answer: that gives p99. Pipelined,
// two clients send 128 requests each with one write and wait for all answers: that gives
// the throughput.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
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

// captures is what is compared: daemons that capture nothing, and some or all of what they are asked.
var (
	captures  = []string{"off", again, "10%", "100%"}
	fractions = map[string]float64{"10%": 0.1, "100%": 1}
)

// again is the second daemon that captures nothing.
const again = "off again"

func main() {
	program.Main("bench-capture", run)
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	picketd, err := versus.BuildDaemon(ctx, dir)
	if err != nil {
		return err
	}
	m := models.Fixture()
	data, err := testrows.New(m.Features)
	if err != nil {
		return err
	}
	defer data.Buffer.Release()
	ask := protocols.Ask{Model: m.Name, Rows: &protocols.Rows{Data: data}, Count: 1}

	sockets, daemons := map[string]string{}, map[string]*versus.Process{}
	for i, name := range captures {
		at := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(at, 0o700); err != nil {
			return err
		}
		text := fmt.Sprintf("unsigned: true\nstate_dir: %s/state\nmodels: [{name: %s, path: %s}]\n", at, m.Name, m.Dir)
		if rate := fractions[name]; rate > 0 {
			text += fmt.Sprintf("capture: {enabled: true}\nmodel_defaults: {capture: {rate: %g}}\n", rate)
		}
		config := filepath.Join(at, "picketd.yaml")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		p, err := versus.Start(ctx, at, picketd, "--config", config, "--sockets", at)
		if err != nil {
			return err
		}
		defer p.Stop()
		sockets[name], daemons[name] = filepath.Join(at, "lane.sock"), p
	}

	out := report.New()
	var results []report.Serving
	// Turns of about a second, so that a daemon writes what it has captured in its own and not in another's.
	for _, load := range []struct{ clients, window, turn, calls int }{{1, 1, 30_000, 420_000}, {2, 128, 2000, 28_000}} {
		each := make(turns, len(captures))
		var targets []versus.Target
		for _, name := range captures {
			one := ask
			one.Address = sockets[name]
			targets = append(targets, versus.Target{Name: "capture " + name, Connect: versus.Timed(one.Lane(load.window))})
		}
		measured, err := versus.Comparison{
			Protocol: "lane", Load: versus.Load{Model: m, Rows: load.window, Outstanding: load.clients}, Turn: load.turn, Calls: load.calls, Time: 90 * time.Second, Targets: targets,
			Each: each.add,
		}.Measure(ctx)
		if err != nil {
			return err
		}
		results = append(results, measured...)
		figures(out, measured, each, load.clients, load.window)
	}
	costs, err := measureCPU(ctx, ask, sockets, daemons)
	if err != nil {
		return err
	}
	for _, c := range costs {
		what := fmt.Sprintf("daemon's processors' time a request, %d at once, %s captured", c.Window, c.Captured)
		out.Tell(what, c.CPUNS, "ns")
		if fractions[c.Captured] > 0 {
			out.Tell(what+": of capturing, for each captured record", c.Extra, "ns")
		}
	}
	out.Results = struct {
		Serving []report.Serving `json:"serving"`
		CPU     []cost           `json:"cpu"`
	}{results, costs}
	return out.Write()
}

// turns are the turns of each target, one in each round of all.
type turns [][]struct{ p99, took float64 }

func (t turns) add(target int, calls []time.Duration, took time.Duration) {
	t[target] = append(t[target], struct{ p99, took float64 }{float64(interleave.Quantile(calls, 0.99)), float64(took)})
}

// beside are the target's p99 and its throughput beside those of the first in the same round: the medians of all rounds, and between
// what they lie with a confidence of at least 95%.
func (t turns) beside(target int) (p99, rate report.Estimate) {
	var slower, faster []float64
	for round, one := range t[target] {
		off := t[0][round]
		slower, faster = append(slower, one.p99/off.p99), append(faster, off.took/one.took)
	}
	return stats.Estimate(slower), stats.Estimate(faster)
}

// figures says what each daemon is beside the first, which captures nothing. What the second one is, and how far apart the ends of
// its intervals are, says how small a difference these turns could show.
func figures(out *report.Report, measured []report.Serving, each turns, clients, window int) {
	off := measured[0]
	for i := range measured[1:] {
		captured := captures[i+1]
		what := captured + " captured"
		if captured == again {
			what = "nothing captured too (noise)"
		}
		p99Ratio, rateRatio := each.beside(i + 1)
		rate := fmt.Sprintf("rows/s with %s to those with nothing captured, %d outstanding (nothing captured: %.0f)", what, clients*window, off.RowsPerS)
		p99 := fmt.Sprintf("p99 with %s to that with nothing captured, %d outstanding (nothing captured: %.1f us)", what, clients*window, off.P99US)
		if captured == "100%" && window > 1 {
			out.Reach(rate, rateRatio.Value, leastThroughput)
		} else {
			out.Tell(rate, rateRatio.Value, "ratio")
		}
		interval(out, "rows/s", what, rateRatio)
		if captured == "10%" && window == 1 {
			out.Promise(p99, p99Ratio.Value, "ratio", mostP99)
		} else {
			out.Tell(p99, p99Ratio.Value, "ratio")
		}
		interval(out, "p99", what, p99Ratio)
	}
}

// interval tells between what a median lies.
func interval(out *report.Report, of, what string, e report.Estimate) {
	out.Tell(fmt.Sprintf("  %s with %s: at least, with %.0f%% confidence, of %d rounds", of, what, 100*e.Confidence, e.N), e.Low, "ratio")
	out.Tell(fmt.Sprintf("  %s with %s: at most", of, what), e.High, "ratio")
}

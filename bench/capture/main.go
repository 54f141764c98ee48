// Command capture measures what capturing costs predictions over the lane: a daemon that
// captures nothing and one that captures a tenth, or all, of its requests take turns. All
// are processes of their own and share the cores with the clients. JSON goes to standard
// output.
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

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
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
	captures  = []string{"off", "10%", "100%"}
	fractions = map[string]float64{"10%": 0.1, "100%": 1}
)

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
	for _, captured := range captures[1:] {
		// So many calls that a hundred of a hundred thousand are above p99, in turns that each hold several writes of the spool.
		for _, load := range []struct{ clients, window, turn, calls int }{{1, 1, 5000, 100_000}, {2, 128, 500, 10_000}} {
			off, on := ask, ask
			off.Address, on.Address = sockets["off"], sockets[captured]
			measured, err := versus.Comparison{
				Protocol: "lane", Load: versus.Load{Model: m, Rows: load.window, Outstanding: load.clients}, Turn: load.turn, Calls: load.calls,
				Targets: [2]versus.Target{
					{Name: "capture off", Connect: versus.Timed(off.Lane(load.window))},
					{Name: "capture " + captured, Connect: versus.Timed(on.Lane(load.window))},
				},
			}.Measure(ctx)
			if err != nil {
				return err
			}
			results = append(results, measured...)
			a, b := measured[0], measured[1]
			rate := fmt.Sprintf("rows/s with %s captured to those with nothing captured, %d outstanding (nothing captured: %.0f)", captured, load.clients*load.window, a.RowsPerS)
			p99 := fmt.Sprintf("p99 with %s captured to that with nothing captured, %d outstanding (nothing captured: %.1f us)", captured, load.clients*load.window, a.P99US)
			if captured == "100%" && load.window > 1 {
				out.Reach(rate, b.RowsPerS/a.RowsPerS, leastThroughput)
			} else {
				out.Tell(rate, b.RowsPerS/a.RowsPerS, "ratio")
			}
			if captured == "10%" && load.window == 1 {
				out.Promise(p99, b.P99US/a.P99US, "ratio", mostP99)
			} else {
				out.Tell(p99, b.P99US/a.P99US, "ratio")
			}
		}
	}
	costs, err := measureCPU(ctx, ask, sockets, daemons)
	if err != nil {
		return err
	}
	for _, c := range costs {
		what := fmt.Sprintf("daemon's processors' time a request, %d at once, %s captured", c.Window, c.Captured)
		out.Tell(what, c.CPUNS, "ns")
		if c.Extra > 0 || c.Captured != "off" {
			out.Tell(what+": of capturing, for each captured record", c.Extra, "ns")
		}
	}
	out.Results = struct {
		Serving []report.Serving `json:"serving"`
		CPU     []cost           `json:"cpu"`
	}{results, costs}
	return out.Write()
}

package suite

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/target"
)

// cell is one thing that is measured: a scenario with one model, one target and one set of parameters.
type cell struct {
	*suites.Run
	target            target.Target
	served            target.Served
	others            []target.Served // that are asked for at the same time, in scenario Mixed
	rows, outstanding int
	name              string // of the case; see report.Parameters

	daemon   *target.Daemon // whose target it is, where it is one's
	every    int            // in a closed load, one of so many requests is timed; 0 before that is known
	stretch  time.Duration  // in a closed load of a slow target, how long a repetition takes in the place of Duration
	capacity float64        // requests a second, found out before an open load
	taken    int            // repetitions, with those that failed
	broken   bool           // one has failed: there are no more

	repetitions []report.Repetition
	rates       []float64 // that scenario Server found; 0 where it found none
	without     []*try    // the lowest rates of repetitions that found none
	points      []report.Point
	phases      target.PhaseTimes // summed up
	counted     counted
	why         []string // it is not valid
}

// servedOf are the ways in which a run has its models served.
func (r *runner) servedOf(run *suites.Run) []target.Served {
	var all []target.Served
	for _, name := range run.Models {
		for _, m := range r.models {
			if m.Name != name {
				continue
			}
			for _, backend := range run.Variants {
				for _, threads := range run.Threads {
					for _, batch := range run.BatchRows {
						all = append(all, target.Served{Model: m, Backend: backend, Threads: threads, BatchRows: batch})
					}
				}
			}
		}
	}
	return all
}

// served are all ways in which models are served in the suite, each once.
func (r *runner) served(runs []suites.Run) []target.Served {
	var all []target.Served
	for i := range runs {
		for _, s := range r.servedOf(&runs[i]) {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// cells are what a run measures.
func (r *runner) cells(run *suites.Run) []*cell {
	var cells []*cell
	models := r.servedOf(run)
	for _, name := range r.names(run) {
		t := r.targets[name]
		for _, s := range models {
			if t == nil && run.Scenario != suites.Capture {
				continue // it was left out when it did not start
			}
			if t != nil && !t.Info().Ours && s.Backend != "" {
				continue // others have no backends of ours
			}
			for _, rows := range run.Rows {
				for _, outstanding := range run.Outstanding {
					c := &cell{Run: run, target: t, served: s, rows: rows, outstanding: outstanding, phases: target.PhaseTimes{}}
					c.daemon = r.daemon
					if run.Pin != "" {
						c.name = "pin=" + run.Pin
					}
					cells = append(cells, r.special(c, name, models)...)
				}
			}
		}
	}
	return cells
}

// names are the targets of a run, with all peers where it names them so.
func (r *runner) names(run *suites.Run) []string {
	var names []string
	for _, name := range run.Targets {
		if name != "peers" {
			names = append(names, name)
			continue
		}
		for _, t := range slices.Sorted(maps.Keys(r.targets)) {
			if isPeer(t) {
				names = append(names, t)
			}
		}
	}
	return names
}

// special makes of a cell those that its scenario has.
func (r *runner) special(c *cell, name string, models []target.Served) []*cell {
	switch c.Scenario {
	case suites.Capture:
		var cells []*cell
		for _, captured := range slices.Sorted(maps.Keys(r.captures)) {
			d := r.captures[captured]
			for _, t := range d.Over() {
				if t.Info().Name == name {
					one := *c
					one.daemon, one.target, one.name, one.phases = d, t, captured, target.PhaseTimes{}
					cells = append(cells, &one)
				}
			}
		}
		return cells
	case suites.Mixed:
		for _, m := range models {
			if m.Model != c.served.Model {
				c.others = append(c.others, m)
			}
		}
		if len(c.others) == 0 {
			r.leave(report.LeftOut{Model: c.served.Name(), Engine: name, Why: "scenario Mixed takes two models"})
			return nil
		}
		c.name = fmt.Sprintf("beside=%d", len(c.others))
	}
	return []*cell{c}
}

// parameters are what the cell does, as it is reported.
func (c *cell) parameters() report.Parameters {
	p := report.Parameters{
		Rows: c.rows, Outstanding: c.outstanding, Threads: c.served.Threads, Case: c.caseName(), Arrivals: "closed",
		BatchRows: c.served.BatchRows, DurationNS: int64(c.Duration), HugePages: c.HugePages,
	}
	if c.every > 1 {
		p.TimedEvery = c.every
	}
	if c.Open() {
		p.Arrivals = c.Arrivals
	}
	if c.Scenario == suites.Server {
		p.LatencyBoundNS, p.Quantile = int64(c.Bound), c.Quantile
	}
	return p
}

// caseName tells the cells of one scenario apart that differ in more than rows, callers and threads.
func (c *cell) caseName() string {
	name := c.name
	add := func(what string) {
		if name != "" {
			name += ","
		}
		name += what
	}
	if c.served.Backend != "" {
		add("backend=" + c.served.Backend)
	}
	if c.served.BatchRows != 0 {
		add(fmt.Sprintf("batch=%d", c.served.BatchRows))
	}
	if c.Scenario == suites.Server {
		add(fmt.Sprintf("bound=%v,q=%v", c.Bound, c.Quantile))
	}
	if c.HugePages != "" {
		add("huge=" + c.HugePages)
	}
	return name
}

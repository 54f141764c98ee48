package suite

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/picket-ml/picket/bench/environment"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/suites"
)

// leastRequests is MLPerf's least number of queries of a run.
const leastRequests = 64

// finish makes the report of a cell.
func (r *runner) finish(ctx context.Context, c *cell) report.Run {
	r.quiet(c)
	c.choose()
	run := report.Run{
		Scenario: c.Scenario, Model: c.served.Model.Name, Target: c.target.Info().Name, Parameters: c.parameters(),
		Repetitions: c.repetitions, Summary: summarize(c.repetitions), Phases: c.phasesOf(),
	}
	if variant, err := r.variant(ctx, c); err != nil {
		c.say("what ran the model is not known: %v", err)
	} else {
		run.Variant = variant
	}
	run.Parameters.RatePerS = c.rate()
	r.pinned(c, &run.Parameters)
	run.Summary.Metric = c.metric()
	slices.SortFunc(c.points, func(a, b report.Point) int { return cmp.Compare(a.RatePerS, b.RatePerS) })
	run.Curve = c.points
	run.Counters = c.counters()
	c.judge()
	run.Verdict = report.Verdict{Valid: len(c.why) == 0, Why: append([]string{}, c.why...)}
	return run
}

// variant asks what runs the cell's model; its server is awake for so long.
func (r *runner) variant(ctx context.Context, c *cell) (_ string, err error) {
	if p := c.target.Process(); p != nil {
		if err := p.Wake(); err != nil {
			return "", err
		}
		defer func() {
			if resting := p.Rest(); err == nil {
				err = resting
			}
		}()
	}
	return c.target.Variant(ctx, c.served)
}

// rate is what an open load asked for.
func (c *cell) rate() float64 {
	switch {
	case c.Scenario == suites.Server:
		if len(c.rates) == 0 {
			return 0
		}
		return stats.Median(c.rates)
	case c.Open():
		return c.Share * c.capacity / float64(1+len(c.others))
	}
	return 0
}

// figure is one number of all repetitions that count.
func figure(repetitions []report.Repetition, of func(rep *report.Repetition) float64) report.Estimate {
	values := make([]float64, 0, len(repetitions))
	for i := range repetitions {
		if !repetitions[i].LeftOut {
			values = append(values, of(&repetitions[i]))
		}
	}
	return stats.Estimate(values)
}

// summarize takes each figure of all repetitions that count together.
func summarize(repetitions []report.Repetition) report.Summary {
	figure := func(of func(rep *report.Repetition) float64) report.Estimate { return figure(repetitions, of) }
	at := func(q float64) report.Estimate {
		return figure(func(rep *report.Repetition) float64 { return float64(rep.Latency.Quantile(q)) })
	}
	perSecond := func(n func(*report.Counts) int64) report.Estimate {
		return figure(func(rep *report.Repetition) float64 {
			return float64(n(&rep.Counts)) / max(time.Duration(rep.DurationNS).Seconds(), 1e-9)
		})
	}
	return report.Summary{
		Mean: figure(func(rep *report.Repetition) float64 { return rep.Latency.Mean() }),
		P50:  at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: at(1),
		Requests: perSecond(func(c *report.Counts) int64 { return c.Answered }), Rows: perSecond(func(c *report.Counts) int64 { return c.Rows }),
	}
}

// metric is the scenario's number.
func (c *cell) metric() report.Metric {
	m := report.Metric{Value: figure(c.repetitions, func(rep *report.Repetition) float64 { return rep.Value })}
	switch c.Scenario {
	case suites.SingleStream, suites.Capture:
		m.Name, m.Unit = "90th percentile latency", "ns"
	case suites.MultiStream, suites.Burst, suites.Swap, suites.Mixed, suites.Soak:
		m.Name, m.Unit = "99th percentile latency", "ns"
	case suites.Server:
		m.Name, m.Unit, m.Higher = "highest rate within the bound", "requests/s", true
	case suites.Overload:
		m.Name, m.Unit, m.Higher = "answered in time, of the capacity", "ratio", true
	case suites.ColdStart:
		m.Name, m.Unit = "time to the first answer", "ns"
	default:
		m.Name, m.Unit, m.Higher = "rows a second", "rows/s", true
	}
	return m
}

// number is that of one repetition, of the scenarios that read it off what was counted.
func (c *cell) number(rep *report.Repetition) float64 {
	switch c.Scenario {
	case suites.SingleStream, suites.Capture:
		return float64(rep.Latency.Quantile(0.9))
	case suites.MultiStream, suites.Burst, suites.Swap, suites.Mixed, suites.Soak:
		return float64(rep.Latency.Quantile(0.99))
	case suites.ColdStart:
		return float64(rep.Latency.Quantile(0.5))
	}
	return float64(rep.Counts.Rows) / max(time.Duration(rep.DurationNS).Seconds(), 1e-9)
}

// leastQuiet is how many repetitions there have to be that nothing disturbed for the others to be left out: as many as an interval
// of 95% takes.
const leastQuiet = 6

// quiet says of each repetition whether it was disturbed, as far as it is known by now how fast the machine can be, and how many were not.
func (r *runner) quiet(c *cell) int {
	for i := range c.repetitions {
		rep := &c.repetitions[i]
		rep.Disturbed = environment.Disturbed(rep.Steal, rep.Others, r.Host.CPU.Threads) || report.Slowed(rep.LoopNS, r.watch.Fastest())
	}
	return c.undisturbed()
}

// undisturbed is how many repetitions nothing disturbed.
func (c *cell) undisturbed() int {
	n := 0
	for i := range c.repetitions {
		if !c.repetitions[i].Disturbed {
			n++
		}
	}
	return n
}

// choose leaves out the repetitions that were disturbed, where enough were not. What decides is what others took of the processors
// and never what was measured. Of a soak, which is about its whole length, and of a search, which has many tries, all count.
func (c *cell) choose() {
	if c.Scenario == suites.Soak || c.Scenario == suites.Server || c.undisturbed() < leastQuiet {
		return
	}
	for i := range c.repetitions {
		c.repetitions[i].LeftOut = c.repetitions[i].Disturbed
	}
}

// total is the phase that is all others of the engine.
const total = "total"

// phasesOf is where the server says that the time of requests went, beside what clients saw.
func (c *cell) phasesOf() []report.Phase {
	if len(c.phases) == 0 || len(c.repetitions) == 0 {
		return nil
	}
	var seen []float64
	for i := range c.repetitions {
		seen = append(seen, c.repetitions[i].Latency.Mean())
	}
	mean := stats.Median(seen)
	rest := mean
	var phases []report.Phase
	for _, name := range slices.Sorted(maps.Keys(c.phases)) {
		p := c.phases[name]
		if name == total || p.Count <= 0 || mean <= 0 {
			continue
		}
		ns := 1e9 * p.Seconds / p.Count
		rest -= ns
		phases = append(phases, report.Phase{Name: name, MeanNS: ns, Share: ns / mean})
	}
	if len(phases) == 0 {
		return nil
	}
	return append(phases, report.Phase{Name: "rest", MeanNS: max(0, rest), Share: max(0, rest) / mean})
}

// counters are the processor's for each row.
func (c *cell) counters() *report.Counters {
	if c.counted.rows == 0 {
		if c.counted.why == "" {
			return nil
		}
		return &report.Counters{Why: c.counted.why}
	}
	each := func(n uint64) float64 { return float64(n) / float64(c.counted.rows) }
	return &report.Counters{
		Instructions: each(c.counted.Instructions), Cycles: each(c.counted.Cycles), CacheMisses: each(c.counted.CacheMisses), BranchMisses: each(c.counted.BranchMisses),
		UserOnly: c.counted.userOnly,
	}
}

// judge adds what speaks against a cell as a whole.
func (c *cell) judge() {
	unsteady, few, of := 0, 0, 0
	for i := range c.repetitions {
		rep := &c.repetitions[i]
		if rep.LeftOut {
			continue
		}
		of++
		if !rep.Steady {
			unsteady++
		}
		if rep.Counts.Sent < leastRequests {
			few++
		}
	}
	if 2*unsteady > of {
		c.say("latencies were not steady in %d of %d repetitions", unsteady, of)
	}
	if few > 0 && c.Scenario != suites.ColdStart {
		c.say("%d of %d repetitions had fewer than %d requests", few, of, leastRequests)
	}
	switch c.Scenario {
	case suites.Soak:
		c.judgeSoak()
	case suites.Server:
		c.judgeRates()
	}
}

// mostRise is how much the median latency may rise over a soak, from its first third to its last.
const mostRise = 1.1

func (c *cell) judgeSoak() {
	third := len(c.repetitions) / 3
	if third == 0 {
		return
	}
	median := func(reps []report.Repetition) float64 { s := summarize(reps); return s.P50.Value }
	first, last := median(c.repetitions[:third]), median(c.repetitions[len(c.repetitions)-third:])
	if last > mostRise*first {
		c.say("the median latency rose from %.1f us in the first third to %.1f us in the last", first/1e3, last/1e3)
	}
}

// overhead tells what measuring costs, and how fast the generator is.
func (r *runner) overhead() {
	o := &r.result.Overhead
	o.RecordNS = r.record
	rates := map[bool]*struct{ empty, others float64 }{false: {}, true: {}} // by whether the load is open
	for i := range r.result.Runs {
		run := &r.result.Runs[i]
		rate := run.Summary.Requests.Value
		s := rates[run.Parameters.Arrivals != "closed"]
		if run.Target == suites.Empty {
			s.empty = max(s.empty, rate)
			continue
		}
		s.others = max(s.others, rate)
		if run.Parameters.Arrivals == "closed" && run.Scenario != suites.ColdStart {
			p := &run.Parameters
			o.Share = max(o.Share, o.RecordNS*rate/1e9/float64(max(1, p.TimedEvery)*max(1, p.Outstanding)))
		}
	}
	for _, s := range rates {
		if s.empty == 0 || s.others == 0 {
			continue
		}
		if h := s.empty / s.others; o.Headroom == 0 || h < o.Headroom {
			o.Headroom, o.GeneratorPerS = h, s.empty
		}
	}
	if o.Headroom != 0 && o.Headroom < leastHeadroom {
		r.result.Marks = append(r.result.Marks, fmt.Sprintf("the generator of loads drives only %.1f times the highest rate measured", o.Headroom))
	}
	if o.Share > mostShare {
		r.result.Marks = append(r.result.Marks, fmt.Sprintf("measuring took %.1f%% of the time of the shortest requests", 100*o.Share))
	}
}

// What the instrument itself is held to: how many times the highest rate the generator drives alone, and how much of a request's
// time recording may take.
const (
	leastHeadroom = 5
	mostShare     = 0.01
)

package suite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/target"
)

// How scenario Server looks for the highest rate: from where it is expected up and down by steps that grow, between parts of what
// callers in a closed loop get, and then by halving the ratio of the two ends, until they are that near or so often.
const (
	lowest    = 0.02
	highest   = 1.5
	expected  = 0.5  // at first; later where it was found before
	firstStep = 1.6  // at first
	nextStep  = 1.15 // later
	near      = 1.02
	mostTries = 14
	quickly   = 3 // tries of a quick run
)

// A try lasts for as long as the suite says, and longer where so many requests would not come in that time: a quantile of a few
// hundred is that of whatever happened to the machine once.
const (
	leastBeyond = 10 // requests beyond the quantile, if all are as they should be
	mostStretch = 4  // times as long at most
)

// try is a rate that was tried.
type try struct {
	report.Repetition
	m    *load.Measured
	rate float64
	why  string // it did not pass
}

// searchHighest finds the highest rate of Poisson arrivals that the target answers within the bound, and keeps that try as a
// repetition. Every repetition searches anew, so that what searching itself leaves open is in the interval of the result. One that
// finds none, down to the lowest rate, counts as a rate of 0.
func (r *runner) searchHighest(ctx context.Context, c *cell, seed uint64) error {
	floor, ceiling := lowest*c.capacity, highest*c.capacity
	rate, step := expected*c.capacity, firstStep
	if found := stats.Median(c.rates); found > 0 {
		rate, step = min(max(found, floor), ceiling), nextStep
	}
	tries := mostTries
	if r.Quick {
		tries = quickly
	}
	var best, last *try
	lo, hi := 0.0, 0.0 // 0 where nothing passed, or failed
	for n := 0; n < tries; n++ {
		t, err := r.attempt(ctx, c, rate, seed+uint64(1+2*n))
		if err != nil {
			return err
		}
		last = t
		if t.why == "" {
			best, lo = t, rate
		} else {
			hi = rate
		}
		if lo == ceiling || hi == floor || lo > 0 && hi > 0 && hi/lo < near {
			break
		}
		switch {
		case hi == 0:
			rate, step = min(rate*step, ceiling), step*step
		case lo == 0:
			rate, step = max(rate/step, floor), step*step
		default:
			rate = math.Sqrt(lo * hi)
		}
	}
	if best == nil {
		c.without = append(c.without, last)
		c.rates = append(c.rates, 0)
		r.keep(c, last.Repetition, last.m, 0)
		return nil
	}
	r.keep(c, best.Repetition, best.m, best.rate)
	c.rates = append(c.rates, best.rate)
	return nil
}

// attempt tries a rate, and once more where it does not pass: what takes the processors away for a moment fails any rate. Where half
// of the requests were beyond the bound, no moment was to blame, and it is not tried again.
func (r *runner) attempt(ctx context.Context, c *cell, rate float64, seed uint64) (*try, error) {
	for again := range uint64(2) {
		p := r.plan(c, seed+again)
		p.Settle = false // it is to be as bad as it is
		needed := time.Duration(leastBeyond / (1 - c.Quantile) / rate * float64(time.Second))
		p.Duration = min(max(p.Duration, needed), mostStretch*p.Duration)
		p.Due = load.Poisson(rand.New(rand.NewPCG(p.Seed, 3)), rate, p.WarmUp+p.Duration)
		m, rep, err := r.watched(ctx, c, p)
		if err != nil {
			return nil, err
		}
		c.sayWrong(m)
		t := &try{Repetition: rep, m: m, rate: rate, why: c.fails(m)}
		c.points = append(c.points, point(t))
		if t.why == "" || again == 1 || m.Counts.Wrong > 0 || m.Latency.Quantile(0.5) > c.Bound {
			return t, nil
		}
	}
	panic("BUG: a rate was tried twice and not judged")
}

// fails says why a try does not pass; empty where it does.
func (c *cell) fails(m *load.Measured) string {
	at := m.Latency.Quantile(c.Quantile)
	switch {
	case m.Counts.Answered == 0:
		return "nothing was answered"
	case m.Counts.Wrong > 0:
		return "answers were wrong"
	case m.Counts.Answered < m.Counts.Sent:
		return fmt.Sprintf("%d of %d requests were not answered", m.Counts.Sent-m.Counts.Answered, m.Counts.Sent)
	case at > c.Bound:
		return fmt.Sprintf("quantile %v is %v, above the bound of %v", c.Quantile, at.Round(time.Microsecond), c.Bound)
	}
	return ""
}

func point(t *try) report.Point {
	at := func(q float64) int64 { return int64(t.m.Latency.Quantile(q)) }
	return report.Point{
		RatePerS: t.rate, AchievedPerS: t.m.PerSecond(), P50NS: at(0.5), P90NS: at(0.9), P99NS: at(0.99), P999NS: at(0.999), Passed: t.why == "", Why: t.why,
	}
}

// judgeRates says why scenario Server has found nothing, where most of its repetitions have not.
func (c *cell) judgeRates() {
	if 2*len(c.without) < len(c.repetitions) || len(c.without) == 0 {
		return
	}
	t := c.without[len(c.without)-1]
	c.say("in %d of %d repetitions no rate down to %.0f requests a second was answered within %v at quantile %v; in the last try %s, half of the requests took %v, the generator was late by %v (99 in 100), the hypervisor took %.1f%% of the processors' time and other processes %.1f%%",
		len(c.without), len(c.repetitions), t.rate, c.Bound, c.Quantile, t.why, t.m.Latency.Quantile(0.5).Round(time.Microsecond), t.m.SendLateP99.Round(time.Microsecond), 100*t.Steal, 100*t.Others)
}

// pipelines is how many connections scenario Overload has.
const pipelines = 4

// overloads asks the lane for more than it can do, with requests that nobody waits for before the next is sent, and sees what
// becomes of them.
func (r *runner) overloads(_ context.Context, c *cell, seed uint64) error {
	if c.target.Info().Name != suites.Lane {
		return errors.New("scenario Overload is of the lane alone: other clients cannot send without waiting")
	}
	random := rand.New(rand.NewPCG(seed, 5))
	var conns []*load.Pipeline
	defer func() {
		for _, p := range conns {
			_ = p.Close() // there is nothing to lose
		}
	}()
	ask := c.daemon.Ask("lane", c.served, c.rows)
	for range pipelines {
		p, err := load.ConnectPipeline(ask.Address, ask.Model, c.rows, 4*c.served.Model.Features, random)
		if err != nil {
			return err
		}
		conns = append(conns, p)
	}
	capacity, err := load.ClosedLoop(conns, max(1, c.outstanding/pipelines), min(c.Duration, time.Second))
	if err != nil {
		return err
	}
	c.capacity = capacity
	due := make([]load.Arrivals, pipelines)
	for i := range due {
		due[i] = load.Poisson(random, c.Share*capacity/pipelines, c.Duration)
	}
	deadline := min(c.Deadline, c.Duration/4)
	rep := report.Repetition{Turn: r.turn, Began: time.Now().UTC()}
	r.turn++
	cpu, err := c.cpu()
	if err != nil {
		return err
	}
	span := r.watch.Span()
	all, err := load.OpenLoop(conns, due, deadline)
	share := span()
	if err != nil {
		return err
	}
	if after, err := c.cpu(); err == nil {
		rep.ServerCPUNS = int64(after - cpu)
	}
	rep.Steal, rep.Others = share.Steal(), share.Other()
	m, unsent := overloaded(all, c.rows, c.Duration, deadline)
	fill(&rep, m)
	if float64(unsent) > 0.5*float64(m.Counts.Sent) {
		c.say("the generator could not send %d of %d requests in time: the sockets were full", unsent, m.Counts.Sent)
	}
	r.keep(c, rep, m, m.PerSecond()/capacity)
	return nil
}

// overloaded counts what became of the requests of an overload, but for those that were due before the first could be too late:
// until then queues only fill. Late is what was answered after its deadline, not at all, or could
// not be sent before it.
func overloaded(all [][]load.Request, rows int, d, deadline time.Duration) (m *load.Measured, unsent int64) {
	m = &load.Measured{WarmUp: deadline, Duration: d - deadline, Steady: true, Latency: report.NewHistogram()}
	lateness := report.NewHistogram()
	for _, requests := range all {
		for i := range requests {
			q := &requests[i]
			if q.Due < deadline {
				continue
			}
			m.Counts.Sent++
			if q.Left > 0 {
				lateness.Record(q.Left - q.Due)
			}
			switch {
			case q.Fate == load.Refused:
				m.Counts.Refused++
			case q.Fate == load.Failed:
				m.Counts.Failed++
				m.Failed = errors.New("the daemon answered with another error than that it is busy or late")
			case q.Fate == load.Answered && q.Took() <= deadline:
				m.Counts.Answered++
				m.Counts.Rows += int64(rows)
				m.Latency.Record(q.Took())
			default:
				if q.Fate == load.Unsent {
					unsent++
				}
				m.Counts.Late++
			}
		}
	}
	m.SendLateP99 = lateness.Quantile(0.99)
	return m, unsent
}

// coldStart starts a daemon of its own, with one model, and waits for the first right answer.
func (r *runner) coldStart(ctx context.Context, c *cell) error {
	if c.target.Info().Name != suites.Lane {
		return errors.New("scenario ColdStart is of the lane alone")
	}
	rep := report.Repetition{Turn: r.turn, Began: time.Now().UTC()}
	r.turn++
	span := r.watch.Span()
	start := time.Now()
	d, err := target.LaunchDaemon(filepath.Join(r.dir, fmt.Sprintf("cold%d", rep.Turn)), []target.Served{c.served}, r.daemonOptions(""))
	if err != nil {
		return err
	}
	took, err := firstAnswer(ctx, d.Ask("lane", c.served, c.rows), start)
	// What the daemon took is known to be the suite's when it has ended.
	err = errors.Join(err, d.Stop())
	share := span()
	if err != nil {
		return err
	}
	rep.Steal, rep.Others = share.Steal(), share.Other()
	m := &load.Measured{Duration: took, Steady: true, Latency: report.NewHistogram()}
	m.Latency.Record(took)
	m.Counts = report.Counts{Sent: 1, Answered: 1, Rows: int64(c.rows), Checked: int64(c.rows)}
	fill(&rep, m)
	r.keep(c, rep, m, c.number(&rep))
	return nil
}

// startPatience is how long a first answer may take.
const startPatience = time.Minute

// firstAnswer asks again and again until there is a right answer, and tells how long that took from start.
func firstAnswer(ctx context.Context, ask protocols.Ask, start time.Time) (time.Duration, error) {
	random := rand.New(rand.NewPCG(1, 1))
	try := func() error {
		// The lane's own client waits longer between attempts than a start takes.
		probe, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: ask.Address, Net: "unixpacket"})
		if err != nil {
			return err
		}
		if err := probe.Close(); err != nil {
			return err
		}
		client, err := ask.Lane(1)()
		if err != nil {
			return err
		}
		defer client.Close()
		client.Prepare(random)
		if err := client.Do(ctx); err != nil {
			return err
		}
		_, err = client.Check()
		return err
	}
	for {
		err := try()
		took := time.Since(start)
		switch {
		case err == nil:
			return took, nil
		case errors.Is(err, protocols.ErrWrong):
			return 0, err
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case took > startPatience:
			return 0, fmt.Errorf("no answer after %v: %w", startPatience, err)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

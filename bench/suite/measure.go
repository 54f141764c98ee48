package suite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/counters"
	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/target"
)

// mostRecording is how much of a request's time reading the clock and recording may take; where requests are so short that it would
// take more, one of several is timed. It is less than the whole suite may take, as the pace is looked at in the beginning and may have been a neighbour's.
const mostRecording = 0.003

// counted is what the processor's counters said.
type counted struct {
	counters.Values
	userOnly bool
	rows     int64
	why      string
}

// measure measures the cells of all runs in rounds: in each, every cell that has a turn makes a repetition, in random order, so that
// what the machine does meanwhile, for a moment or over minutes, hits all of them alike. Soak, which is about many repetitions in a
// row, comes last.
func (r *runner) measure(ctx context.Context, runs []suites.Run) error {
	var cells, soaks []*cell
	for i := range runs {
		for _, c := range r.possible(&runs[i]) {
			if c.Scenario == suites.Soak {
				soaks = append(soaks, c)
			} else {
				cells = append(cells, c)
			}
		}
	}
	var after time.Duration
	for _, c := range soaks {
		after += time.Duration(c.Repetitions) * (r.warmUp() + c.Duration)
	}
	if err := r.rounds(ctx, cells, after); err != nil {
		return err
	}
	for _, c := range soaks {
		for range c.Repetitions {
			if err := r.take(ctx, c); err != nil {
				return err
			}
		}
		r.Say(fmt.Sprintf("%s of %s: %d repetitions", c.Scenario, c.target.Info().Name, len(c.repetitions)))
	}
	for _, c := range slices.Concat(cells, soaks) {
		switch {
		case c.broken:
		case len(c.repetitions) == 0:
			r.leave(report.LeftOut{Model: c.served.Name(), Engine: c.target.Info().Name, Rows: c.rows, Why: c.Scenario + ": " + strings.Join(c.why, "; ")})
		default:
			r.result.Runs = append(r.result.Runs, r.finish(ctx, c))
		}
	}
	return nil
}

// possible are the cells of a run that this host can measure.
func (r *runner) possible(run *suites.Run) []*cell {
	cells, why := r.cells(run), ""
	if run.HugePages != "" && run.HugePages != r.Host.Memory.TransparentHugePages {
		why = fmt.Sprintf("transparent huge pages are to be %q and are %q; root changes that", run.HugePages, r.Host.Memory.TransparentHugePages)
	}
	if run.Pin != "" {
		if _, _, err := r.places(run.Pin); err != nil {
			why = err.Error()
		}
	}
	if why == "" {
		return cells
	}
	for _, c := range cells {
		r.leave(report.LeftOut{Model: c.served.Name(), Engine: c.target.Info().Name, Why: why})
	}
	return nil
}

// mostAgain is how many rounds there are at most, in parts of those planned, in which repetitions that were disturbed are made again.
const mostAgain = 1.0 / 3

// rounds has the cells take turns: as many rounds as the most repetitions that one of them has, the turns of those with fewer evenly
// spread. Picket is started anew between some. Then what was disturbed is made again, as far as there is time to: what comes after takes
// some, too.
func (r *runner) rounds(ctx context.Context, cells []*cell, after time.Duration) error {
	began := time.Now()
	rounds, longest := 0, time.Duration(0)
	for _, c := range cells {
		rounds = max(rounds, c.Repetitions)
	}
	starts := min(r.Suite.Starts, rounds)
	for round := range rounds {
		if round > 0 && divides(round-1, starts, rounds) {
			if err := r.renew(ctx); err != nil {
				return err
			}
		}
		start := time.Now()
		for _, i := range r.random.Perm(len(cells)) {
			if !divides(round, cells[i].Repetitions, rounds) {
				continue
			}
			if err := r.take(ctx, cells[i]); err != nil {
				return err
			}
		}
		longest = max(longest, time.Since(start))
		r.Say(fmt.Sprintf("round %d of %d, %.0f s", round+1, rounds, time.Since(began).Seconds()))
	}
	for range int(math.Ceil(mostAgain * float64(rounds))) {
		lacking := slices.DeleteFunc(slices.Clone(cells), func(c *cell) bool { return c.broken || c.Scenario == suites.Server || r.quiet(c) >= c.Repetitions })
		if len(lacking) == 0 {
			break
		}
		part := longest * time.Duration(len(lacking)) / time.Duration(len(cells))
		if !fits(r.Suite.Within, time.Since(r.result.Began)+part+after) {
			r.Say(fmt.Sprintf("others had more of the processors than they may in %d cells, and within %v there is no time to make them again", len(lacking), r.Suite.Within))
			break
		}
		r.Say(fmt.Sprintf("others had more of the processors than they may in %d cells: once more, %.0f s", len(lacking), time.Since(began).Seconds()))
		for _, i := range r.random.Perm(len(lacking)) {
			if err := r.take(ctx, lacking[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits reports whether a suite that is to take no longer than within, or any time where that is 0, may take so long.
func fits(within, long time.Duration) bool { return within == 0 || long <= within }

// divides reports whether in round n of all, counted from 0, what happens so many times has a turn.
func divides(n, times, all int) bool { return (n+1)*times/all > n*times/all }

// renew starts Picket anew: where the kernel puts the memory, the threads and the connections of a process is a matter of chance that
// lasts as long as the process, and would be taken for a difference between two results.
func (r *runner) renew(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(r.targets)) {
		if t, ok := r.targets[name].(target.Renewable); ok {
			if err := t.Renew(ctx); err != nil {
				return fmt.Errorf("starting %s anew: %w", name, err)
			}
		}
	}
	for _, d := range r.daemons() {
		if err := d.Renew(ctx); err != nil {
			return err
		}
		if err := d.Rest(); err != nil {
			return err
		}
	}
	return nil
}

// take makes a repetition of a cell that has not failed before. A target of others that fails is left out.
func (r *runner) take(ctx context.Context, c *cell) error {
	if c.broken {
		return nil
	}
	before, err := r.await(ctx, c)
	if err != nil {
		return err
	}
	made := len(c.repetitions)
	err = r.repeat(ctx, c, c.taken)
	c.taken++
	after, probing := r.watch.Probe(r.processors(c))
	if probing != nil {
		return errors.Join(err, probing)
	}
	for i := range c.repetitions[made:] {
		c.repetitions[made+i].LoopNS = max(before, after)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	c.broken = true
	t := c.target.Info()
	if t.Ours && c.served.Backend == "" {
		return fmt.Errorf("scenario %s: %s with model %s: %w", c.Scenario, t.Name, c.served.Name(), err)
	}
	r.leave(report.LeftOut{Model: c.served.Name(), Engine: t.Name, Rows: c.rows, Why: err.Error()})
	return nil
}

// await waits until a loop of fixed work is as fast as it has been on the processors that the cell will have, as long as the suite has patience, and
// says what it takes then.
func (r *runner) await(ctx context.Context, c *cell) (loop float64, err error) {
	for start := time.Now(); ctx.Err() == nil; {
		if loop, err = r.watch.Probe(r.processors(c)); err != nil {
			return 0, err
		}
		if r.Quick || time.Since(start) >= r.Suite.Patience || !report.Slowed(loop, r.watch.Fastest()) {
			return loop, nil
		}
	}
	return 0, ctx.Err()
}

// processors are those that a cell is measured on.
func (r *runner) processors(c *cell) []int {
	if server, clients, err := r.places(c.Pin); err == nil {
		return slices.Compact(slices.Sorted(slices.Values(slices.Concat(server, clients))))
	}
	return r.Host.CPU.Affinity
}

// repeat makes one repetition of a cell, with its server awake for so long.
func (r *runner) repeat(ctx context.Context, c *cell, n int) (err error) {
	if c.Scenario == suites.ColdStart {
		return r.coldStart(ctx, c)
	}
	if p := c.target.Process(); p != nil {
		if err := p.Wake(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Rest()) }()
	}
	unpin, err := r.pin(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unpin()) }()
	seed := r.Seed + uint64(1000*r.turn+n)
	switch {
	case !c.Open() && c.every == 0:
		r.findPace(ctx, c, seed)
	case c.Open() && c.capacity == 0 && c.Scenario != suites.Overload:
		if err := r.findCapacity(ctx, c, seed); err != nil {
			return err
		}
	}
	switch c.Scenario {
	case suites.Server:
		return r.searchHighest(ctx, c, seed)
	case suites.Overload:
		return r.overloads(ctx, c, seed)
	}
	return r.once(ctx, c, seed)
}

// plan is one repetition of the cell's load, of which the clients and the times when requests are due are left open.
func (r *runner) plan(c *cell, seed uint64) load.Plan {
	return load.Plan{Rows: c.rows, WarmUp: r.warmUp(), Duration: max(c.Duration, c.stretch), Settle: true, Every: c.every, Clock: r.clock, Seed: seed}
}

// connect connects so many clients of the cell's target.
func connect(c *cell, s target.Served, n int) (_ []protocols.Client, closeAll func() error, err error) {
	var clients []protocols.Client
	closeAll = func() error {
		var all error
		for _, c := range clients {
			all = errors.Join(all, c.Close())
		}
		return all
	}
	for range n {
		client, err := c.target.Connect(s, c.rows)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("connecting: %w", err), closeAll())
		}
		clients = append(clients, client)
	}
	return clients, closeAll, nil
}

// run puts a load on with clients of its own.
func (r *runner) run(ctx context.Context, c *cell, s target.Served, p load.Plan) (*load.Measured, error) {
	clients, closeAll, err := connect(c, s, c.outstanding)
	if err != nil {
		return nil, err
	}
	p.Clients = clients
	m, err := load.Run(ctx, p)
	if err != nil {
		_ = closeAll() // some are closed already
		return nil, err
	}
	return m, closeAll()
}

// How it is found how long requests take before anything is timed: in so many tries of so long.
const (
	paceTries = 3
	paceTime  = 20 * time.Millisecond
)

// findPace finds out how long requests take when no clock is read for each, and chooses by that how many are timed, and how long it takes
// a slow target to answer as many as a repetition needs, for all repetitions of the cell. A target that fails meanwhile is told of by its repetitions. All of the empty one's are timed: what it
// shows is how fast the generator is at its slowest.
func (r *runner) findPace(ctx context.Context, c *cell, seed uint64) {
	c.every = 1
	if c.target.Info().Kind == report.KindEmpty {
		return
	}
	var rates []float64
	for range paceTries {
		m, err := r.run(ctx, c, c.served, load.Plan{Rows: c.rows, Duration: paceTime, AskOnly: true, Seed: seed})
		if err != nil || m.PerSecond() == 0 {
			return
		}
		rates = append(rates, m.PerSecond())
	}
	// What others disturb looks slower than it is, and would be timed too often.
	c.every, c.stretch = timedEvery(r.record, slices.Max(rates), c.outstanding), stretched(stats.Median(rates), c.Duration)
}

// timedEvery is of how many requests one is timed, where recording one takes so many nanoseconds and so many callers are answered so often a second.
func timedEvery(record, perSecond float64, callers int) int {
	took := 1e9 * float64(callers) / perSecond // a request, for its caller
	return min(max(1, int(math.Ceil(record/(mostRecording*took)))), load.MostEvery)
}

// stretched is how long a repetition that is to last for d takes of a target that answers so often a second.
func stretched(perSecond float64, d time.Duration) time.Duration {
	needed := time.Duration(1.25 * leastRequests / perSecond * float64(time.Second))
	return min(max(d, needed), mostStretch*d)
}

// How the capacity is found: the median of so many tries of so long at most, as one that is disturbed would put another load on all
// repetitions.
const (
	capacityTries = 3
	capacityTime  = 200 * time.Millisecond
)

// findCapacity finds out how many requests a second the callers get answered who ask again as soon as they have their answer.
func (r *runner) findCapacity(ctx context.Context, c *cell, seed uint64) error {
	found := make([]float64, 0, capacityTries)
	for range capacityTries {
		rate, err := r.tryCapacity(ctx, c, seed)
		if err != nil {
			return err
		}
		found = append(found, rate)
	}
	c.capacity = stats.Median(found)
	return nil
}

func (r *runner) tryCapacity(ctx context.Context, c *cell, seed uint64) (float64, error) {
	p := r.plan(c, seed)
	p.Duration, p.Settle = min(p.Duration, capacityTime), false
	// A machine that has much else to do may answer nothing in a short time.
	var m *load.Measured
	for _, longer := range []float64{1, 4, 4} {
		p.Duration = time.Duration(longer * float64(p.Duration))
		var err error
		if m, err = r.run(ctx, c, c.served, p); err != nil {
			return 0, err
		}
		if m.Counts.Answered > 0 {
			return m.PerSecond(), nil
		}
	}
	err := fmt.Errorf("no request was answered within %v", p.Duration)
	if m.Failed != nil {
		err = fmt.Errorf("%w: %w", err, m.Failed)
	}
	return 0, err
}

// arrivals are when the requests of an open load are due.
func (c *cell) arrivals(random *rand.Rand, rate float64, d time.Duration) load.Arrivals {
	if c.Arrivals == "bursts" {
		return load.Bursts(random, rate, d)
	}
	return load.Poisson(random, rate, d)
}

// once puts the cell's load on the target once.
func (r *runner) once(ctx context.Context, c *cell, seed uint64) error {
	p := r.plan(c, seed)
	if c.Open() {
		p.Due = c.arrivals(rand.New(rand.NewPCG(seed, 3)), c.Share*c.capacity/float64(1+len(c.others)), p.WarmUp+p.Duration)
		// What swaps and bursts do to latencies is what is looked for.
		p.Settle = c.Scenario == suites.Soak
	}
	aside, err := r.aside(ctx, c, p)
	if err != nil {
		return err
	}
	m, rep, err := r.watched(ctx, c, p)
	if err := errors.Join(err, aside()); err != nil {
		return err
	}
	r.keep(c, rep, m, c.number(&rep))
	return nil
}

// aside starts what a scenario has going on beside the load; the function waits for it to end.
func (r *runner) aside(ctx context.Context, c *cell, p load.Plan) (func() error, error) {
	ended := make(chan error, 1+len(c.others))
	going := 0
	for i, s := range c.others {
		other := p
		other.Seed += uint64(100 + i)
		other.Due = c.arrivals(rand.New(rand.NewPCG(other.Seed, 3)), c.Share*c.capacity/float64(1+len(c.others)), p.WarmUp+p.Duration)
		going++
		go func() {
			m, err := r.run(ctx, c, s, other)
			if err == nil && (m.Failed != nil || m.Wrong != nil) {
				err = fmt.Errorf("the other model: %w", errors.Join(m.Failed, m.Wrong))
			}
			ended <- err
		}()
	}
	if c.Scenario == suites.Swap {
		if c.daemon == nil {
			return nil, errors.New("nothing but picketd swaps models")
		}
		ctx, enough := context.WithTimeout(ctx, p.WarmUp+p.Duration)
		_ = enough // the time is what ends it
		going++
		go func() { ended <- r.swap(ctx, c, p.Duration/swaps) }()
	}
	return func() error {
		var all error
		for range going {
			all = errors.Join(all, <-ended)
		}
		return all
	}, nil
}

// swaps is how often a model is replaced in a repetition of scenario Swap.
const swaps = 4

// swap replaces the cell's model again and again until ctx ends.
func (r *runner) swap(ctx context.Context, c *cell, every time.Duration) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
		// One that has begun goes on beyond the load's end.
		if err := c.daemon.Replace(context.WithoutCancel(ctx), c.served); err != nil {
			return err
		}
	}
}

// watched puts a load on and sees what else happens: what other processes do, what the server says of itself, and what the
// processor counts.
func (r *runner) watched(ctx context.Context, c *cell, p load.Plan) (*load.Measured, report.Repetition, error) {
	rep := report.Repetition{Turn: r.turn, Began: time.Now().UTC()}
	r.turn++
	before, err := c.phasesNow(ctx)
	if err != nil {
		return nil, rep, err
	}
	cpu, err := c.cpu()
	if err != nil {
		return nil, rep, err
	}
	count := c.count()
	span := r.watch.Span()
	m, err := r.run(ctx, c, c.served, p)
	share := span()
	if err != nil {
		return nil, rep, errors.Join(err, count(0))
	}
	if err := count(m.Counts.Rows); err != nil {
		return nil, rep, err
	}
	if after, err := c.cpu(); err == nil {
		rep.ServerCPUNS = int64(after - cpu)
	}
	after, err := c.phasesNow(ctx)
	if err != nil {
		return nil, rep, err
	}
	for name, now := range after {
		sum := c.phases[name]
		sum.Seconds += now.Seconds - before[name].Seconds
		sum.Count += now.Count - before[name].Count
		c.phases[name] = sum
	}
	rep.Steal, rep.Others = share.Steal(), share.Other()
	fill(&rep, m)
	return m, rep, nil
}

// fill puts what was measured into a repetition.
func fill(rep *report.Repetition, m *load.Measured) {
	rep.DurationNS, rep.WarmUpNS, rep.Steady, rep.Counts = int64(m.Duration), int64(m.WarmUp), m.Steady, m.Counts
	rep.Latency, rep.Service, rep.SendLateP99NS = m.Latency, m.Service, int64(m.SendLateP99)
}

// keep adds a repetition to its cell, with the scenario's number of it, and what speaks against it.
func (r *runner) keep(c *cell, rep report.Repetition, m *load.Measured, value float64) {
	rep.Value = value
	c.repetitions = append(c.repetitions, rep)
	c.sayWrong(m)
	if m.Failed != nil {
		c.say("%d of %d requests failed: %v", m.Counts.Failed, m.Counts.Sent, m.Failed)
	}
	if c.Scenario != suites.Overload && m.Counts.Refused+m.Counts.Late > 0 {
		c.say("%d of %d requests were refused and %d answered too late, without an overload", m.Counts.Refused, m.Counts.Sent, m.Counts.Late)
	}
}

// sayWrong says of wrong answers, wherever they were given.
func (c *cell) sayWrong(m *load.Measured) {
	if m.Wrong != nil {
		c.say("%d of %d rows were answered wrongly: %v", m.Counts.Wrong, m.Counts.Checked, m.Wrong)
	}
}

// mostWhys bounds what is said against one cell.
const mostWhys = 5

func (c *cell) say(format string, values ...any) {
	if why := fmt.Sprintf(format, values...); len(c.why) < mostWhys && !slices.Contains(c.why, why) {
		c.why = append(c.why, why)
	}
}

func (c *cell) phasesNow(ctx context.Context) (target.PhaseTimes, error) {
	if p, ok := c.target.(target.Phased); ok {
		return p.Phases(ctx, c.served)
	}
	return nil, nil
}

func (c *cell) cpu() (time.Duration, error) {
	if p := c.target.Process(); p != nil {
		return p.CPU()
	}
	return 0, nil
}

// count begins to count what the processor does for the target; the function ends it and adds it for so many rows.
func (c *cell) count() func(rows int64) error {
	pid := 0
	if p := c.target.Process(); p != nil {
		pid = p.PID()
	}
	set, err := counters.Open(pid)
	if err != nil {
		c.counted.why = err.Error()
		return func(int64) error { return nil }
	}
	return func(rows int64) error {
		v, err := set.Read()
		if err := errors.Join(err, set.Close()); err != nil {
			return err
		}
		c.counted.Instructions += v.Instructions
		c.counted.Cycles += v.Cycles
		c.counted.CacheMisses += v.CacheMisses
		c.counted.BranchMisses += v.BranchMisses
		c.counted.rows += rows
		c.counted.userOnly = set.UserOnly
		return nil
	}
}

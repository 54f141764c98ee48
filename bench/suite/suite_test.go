package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/bench/environment"
	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// scripted is a target whose answers are as a script says.
type scripted struct {
	name   string
	broken error
	wrong  bool
	// refuses says of the clients of a connection, counted from 1, whether they are refused; nil for never.
	refuses   func(connection int) bool
	connected int
	// asked are the targets in the order in which they were connected to.
	asked   *[]string
	renewed int
}

var _ target.Renewable = (*scripted)(nil)

func (s *scripted) Renew(context.Context) error { s.renewed++; return nil }

func (s *scripted) Info() report.TargetInfo {
	return report.TargetInfo{Name: s.name, Kind: report.KindInProcess, Transport: "call", Version: "1"}
}
func (s *scripted) Variant(context.Context, target.Served) (string, error) { return "script", nil }
func (s *scripted) Process() *process.Server                               { return nil }
func (s *scripted) Connect(m target.Served, rows int) (protocols.Client, error) {
	*s.asked = append(*s.asked, s.name)
	s.connected++
	refused := s.refuses != nil && s.refuses(s.connected)
	return &scriptedClient{scripted: s, Ask: protocols.Ask{Rows: m.Model.Rows, Count: rows}, refused: refused}, s.broken
}

type scriptedClient struct {
	*scripted
	protocols.Ask
	first   int
	refused bool
}

func (c *scriptedClient) Prepare(random *rand.Rand) { c.first, _ = c.Choose(random) }
func (c *scriptedClient) Do(context.Context) error {
	if c.refused {
		return engine.ErrBusy
	}
	return nil
}
func (c *scriptedClient) Close() error { return nil }
func (c *scriptedClient) Check() (int, error) {
	answers := slices.Clone(c.Rows.Answers[c.first : c.first+c.Count])
	if c.wrong {
		answers[0] += 0.5
	}
	return 4, c.Rows.Check(c.first, c.Count, answers)
}

func options(t *testing.T, text string, targets ...*scripted) Options {
	t.Helper()
	s, err := suites.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Suite: s, Host: hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true}), Root: os.DirFS("/"), Seed: 1, Version: "v",
		Starters: []target.Starter{target.StartEmpty("v"), func(context.Context, string, []target.Served, func(string) bool) (*target.Group, error) {
			g := &target.Group{Close: func() error { return nil }}
			for _, s := range targets {
				g.Targets = append(g.Targets, s)
			}
			return g, nil
		}},
	}
}

const small = `name: small
models: [{name: m, trees: 3, depth: 2, features: 4}]
repetitions: 6
duration: 50ms
warm_up: 1ms
runs:
- {scenario: SingleStream, targets: [empty, peers]}
- {scenario: Server, targets: [peers], bound: 1m, quantile: 0.9, outstanding: [4], repetitions: 2}
`

// TestRun runs a suite on scripted targets: all are measured, in turns and not one after the other; what is wrong is told, what
// breaks is left out.
func TestRun(t *testing.T) {
	t.Parallel()
	var asked []string
	good, wrong, broken := &scripted{name: "good", asked: &asked}, &scripted{name: "wrong", wrong: true, asked: &asked}, &scripted{name: "broken", broken: errors.New("no licence"), asked: &asked}
	o := options(t, small, good, wrong, broken)
	o.Quick, o.Family = false, "m5"
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string]*report.Run{}
	for i := range r.Runs {
		byKey[r.Runs[i].Scenario+" "+r.Runs[i].Target] = &r.Runs[i]
	}
	single := byKey["SingleStream good"]
	// On a machine that has other work, some are made again.
	if single == nil || len(single.Repetitions) < 6 || single.Summary.Metric.Value.N < 6 || single.Summary.P90.Confidence < 0.95 || single.Variant != "script" {
		t.Fatalf("SingleStream of a good target is %+v", single)
	}
	answered := int64(0)
	for _, rep := range single.Repetitions {
		if rep.Counts.Checked < rep.Counts.Answered || rep.Counts.Wrong != 0 || rep.Counts.Answered < rep.Latency.TotalCount() {
			t.Errorf("a repetition is counted as %+v", rep.Counts)
		}
		if rep.Value != float64(rep.Latency.Quantile(0.9)) {
			t.Errorf("the number of a repetition is %v, its 90th percentile %v", rep.Value, rep.Latency.Quantile(0.9))
		}
		answered += rep.Counts.Answered
	}
	if good.renewed != 2 {
		t.Errorf("a target was started anew %d times, the suite has three starts", good.renewed)
	}
	if answered == 0 {
		t.Error("nothing is answered in any repetition")
	}
	if w := byKey["SingleStream wrong"]; w == nil || w.Verdict.Valid || !strings.Contains(w.Verdict.Why[0], "answered wrongly") {
		t.Errorf("a target that answers wrongly is told of as %+v", w)
	}
	if byKey["SingleStream broken"] != nil || !slices.ContainsFunc(r.LeftOut, func(l report.LeftOut) bool { return l.Engine == "broken" && strings.Contains(l.Why, "no licence") }) {
		t.Errorf("a target that breaks is left out with %v", r.LeftOut)
	}
	server := byKey["Server good"]
	if server == nil || len(server.Curve) == 0 || server.Summary.Metric.Value.Value != server.Parameters.RatePerS {
		t.Fatalf("Server of a good target is %+v", server)
	}
	if !slices.IsSortedFunc(server.Curve, func(a, b report.Point) int { return cmp.Compare(a.RatePerS, b.RatePerS) }) {
		t.Error("a curve does not ascend")
	}
	// By chance that is one in 2^11 if they take turns in random order; the seed is fixed.
	var order []string
	for _, name := range asked {
		if name == "good" || name == "wrong" {
			order = append(order, name)
		}
	}
	if turns := order[:12]; slices.Equal(turns, slices.Concat(slices.Repeat([]string{"good"}, 6), slices.Repeat([]string{"wrong"}, 6))) || slices.IsSorted(turns) {
		t.Errorf("targets are measured one after the other: %v", turns)
	}
	seen := map[int]bool{}
	for _, run := range r.Runs {
		for _, rep := range run.Repetitions {
			if seen[rep.Turn] {
				t.Errorf("turn %d is there twice", rep.Turn)
			}
			seen[rep.Turn] = true
		}
	}
	if len(r.Models) != 1 || r.Models[0].Trees != 3 || r.Suite.Digest == "" || !r.Suite.Forced || !slices.ContainsFunc(r.Marks, func(m string) bool { return strings.Contains(m, "family m5") }) {
		t.Errorf("the result is of %+v, %+v, marked %q", r.Suite, r.Models, r.Marks)
	}
	// How much that is depends on the machine: see TestPace and TestOverhead.
	if o := &r.Overhead; o.RecordNS < 0 || o.Share < 0 || o.Headroom < 0 {
		t.Errorf("the overhead is %+v", o)
	}
	var text strings.Builder
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	if _, err := report.ParseResult([]byte(text.String())); err != nil {
		t.Errorf("the result cannot be read: %v", err)
	}
}

const rates = `name: rates
models: [{name: m, trees: 3, depth: 2, features: 4}]
repetitions: 3
duration: 40ms
warm_up: 1ms
runs:
- {scenario: Server, targets: [peers], bound: 1m, quantile: 0.9, outstanding: [1]}
`

// TestServer searches for the highest rate. One try that is disturbed is made again; a target that no rate suits is told of, with what
// the last try was like, and has no rate. What the target can do in a closed loop is given, as a busy machine may find anything.
func TestServer(t *testing.T) {
	t.Parallel()
	var asked []string
	// Each connection is a try.
	disturbed := &scripted{name: "disturbed", asked: &asked, refuses: func(connection int) bool { return connection == 1 }}
	busy := &scripted{name: "busy", asked: &asked, refuses: func(int) bool { return true }}
	r := begun(t, options(t, rates, disturbed, busy))
	cells := r.possible(&r.Suite.Runs[0])
	for _, c := range cells {
		c.capacity = 10_000
	}
	if err := r.rounds(t.Context(), cells, 0); err != nil {
		t.Fatal(err)
	}
	byTarget := map[string]report.Run{}
	for _, c := range cells {
		byTarget[c.target.Info().Name] = r.finish(t.Context(), c)
	}
	d, b := byTarget["disturbed"], byTarget["busy"]
	// Whatever is asked is answered at once, within a minute that is, so that the search ends where it may go no further up.
	if v := d.Summary.Metric.Value; !d.Verdict.Valid || v.N != 3 || v.Low != highest*10_000 || v.High != highest*10_000 || d.Parameters.RatePerS != v.Value {
		t.Errorf("a target that was disturbed once is found to bear %+v, %+v", v, d.Verdict)
	}
	failed := 0
	for _, p := range d.Curve {
		if !p.Passed {
			failed++
			if !slices.ContainsFunc(d.Curve, func(other report.Point) bool { return other.Passed && other.RatePerS == p.RatePerS }) {
				t.Errorf("a rate that was disturbed, %+v, was not tried again", p)
			}
		}
	}
	if failed != 1 {
		t.Errorf("%d tries failed, one was to be: %+v", failed, d.Curve)
	}
	if v := b.Summary.Metric.Value; b.Verdict.Valid || v.Value != 0 || v.N != 3 || !strings.Contains(fmt.Sprint(b.Verdict.Why), "in 3 of 3 repetitions no rate down to 200 requests a second") {
		t.Errorf("a target that refuses all is found to bear %+v, %+v", v, b.Verdict)
	}
}

// begun is a run of a suite that is ready to measure, with its targets started; it ends with the test.
func begun(t *testing.T, o Options) *runner {
	t.Helper()
	r := newRunner(o, t.TempDir())
	t.Cleanup(func() {
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
	r.begin()
	runs := r.chosen()
	if err := r.prepare(runs); err != nil {
		t.Fatal(err)
	}
	if err := r.start(t.Context(), runs); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPace has so many requests timed that it stays a small part of their time, and slow targets answer as many as a repetition needs.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		perSecond      float64
		callers, every int
		stretch        time.Duration
	}{
		{50, 1, 1, 1600 * time.Millisecond},
		{10, 1, 1, 4 * time.Second},
		{40_000, 1, 1, time.Second},  // 60 ns are 0.24% of 25 us,
		{100_000, 1, 2, time.Second}, // 0.6% of 10 us,
		{100_000, 4, 1, time.Second}, // and 0.15% of the 40 us that each of four callers waits.
		{10_000_000, 1, 200, time.Second},
		{1e12, 1, load.MostEvery, time.Second},
	} {
		if every := timedEvery(60, c.perSecond, c.callers); every != c.every {
			t.Errorf("of %v answers a second to %d callers one of %d is timed, want %d", c.perSecond, c.callers, every, c.every)
		}
		if stretch := stretched(c.perSecond, time.Second); stretch != c.stretch {
			t.Errorf("a repetition of %v answers a second takes %v, want %v", c.perSecond, stretch, c.stretch)
		}
	}
}

// TestOverhead tells what measuring costs, by the shortest requests of closed loads, and how much faster the generator is alone, by the kind of load of
// which it is the least; and marks a result where either is not as it is to be.
func TestOverhead(t *testing.T) {
	t.Parallel()
	run := func(target, arrivals string, requests float64, every, callers int) report.Run {
		one := report.Run{Scenario: suites.SingleStream, Target: target, Parameters: report.Parameters{Arrivals: arrivals, TimedEvery: every, Outstanding: callers}}
		one.Summary.Requests.Value = requests
		return one
	}
	for _, c := range []struct {
		what                   string
		runs                   []report.Run
		share, headroom, alone float64
		marks                  []string
	}{
		{"nothing", nil, 0, 0, 0, nil},
		{"a closed load", []report.Run{run("empty", "closed", 1e7, 0, 1), run("engine", "closed", 1e6, 10, 1), run("lane", "closed", 5e4, 0, 1)}, 0.005, 10, 1e7, nil},
		{"all timed", []report.Run{run("empty", "closed", 1e7, 0, 1), run("engine", "closed", 1e6, 0, 1)}, 0.05, 10, 1e7, []string{"measuring took 5.0%"}},
		{"callers side by side", []report.Run{run("empty", "closed", 1e7, 0, 1), run("engine", "closed", 4e5, 0, 4)}, 0.005, 25, 1e7, nil},
		{"open loads", []report.Run{
			run("empty", "closed", 1e7, 0, 1), run("engine", "closed", 1e5, 0, 1), run("empty", "poisson", 1e5, 0, 32), run("lane", "poisson", 4e4, 0, 32),
		}, 0.005, 2.5, 1e5, []string{"drives only 2.5 times"}},
	} {
		r := &runner{record: 50, result: &report.Result{Runs: c.runs}}
		r.overhead()
		o := r.result.Overhead
		if math.Abs(o.Share-c.share) > 1e-9 || math.Abs(o.Headroom-c.headroom) > 1e-9 || o.GeneratorPerS != c.alone || o.RecordNS != 50 {
			t.Errorf("of %s the overhead is %+v", c.what, o)
		}
		if len(r.result.Marks) != len(c.marks) {
			t.Errorf("of %s the marks are %q", c.what, r.result.Marks)
			continue
		}
		for i, want := range c.marks {
			if !strings.Contains(r.result.Marks[i], want) {
				t.Errorf("of %s a mark is %q, want one with %q", c.what, r.result.Marks[i], want)
			}
		}
	}
}

// TestRoundsAreSpread has what happens a few times happen as often as it is to, and evenly.
func TestRoundsAreSpread(t *testing.T) {
	t.Parallel()
	for times := 0; times <= 12; times++ {
		var rounds []int
		for n := range 12 {
			if divides(n, times, 12) {
				rounds = append(rounds, n)
			}
		}
		if len(rounds) != times {
			t.Errorf("%d turns in 12 rounds come out as %v", times, rounds)
		}
		for i := 1; i < len(rounds); i++ {
			if gap := rounds[i] - rounds[i-1]; gap > 12/times+1 || gap < 12/times {
				t.Errorf("%d turns in 12 rounds are %v", times, rounds)
			}
		}
	}
}

// TestWithin makes nothing again where the suite's time is up, whatever others do.
func TestWithin(t *testing.T) {
	t.Parallel()
	var asked []string
	r, err := Run(t.Context(), options(t, strings.Replace(small, "name: small", "name: small\nwithin: 1ms", 1), &scripted{name: "good", asked: &asked}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Scenario == suites.SingleStream && len(run.Repetitions) != 6 {
			t.Errorf("%s has %d repetitions of 6", run.Key(), len(run.Repetitions))
		}
	}
}

// TestDisturbed leaves out what others disturbed, where enough is left, and never for what was measured.
func TestDisturbed(t *testing.T) {
	t.Parallel()
	reps := func(quiet, disturbed int) []report.Repetition {
		var all []report.Repetition
		for i := range quiet + disturbed {
			all = append(all, report.Repetition{Value: float64(10 + i), Disturbed: i >= quiet, Latency: report.NewHistogram()})
		}
		return all
	}
	for _, c := range []struct {
		scenario         string
		quiet, disturbed int
		n                int
	}{
		{suites.SingleStream, 7, 3, 7},
		{suites.SingleStream, 5, 9, 14}, // too few for an interval of 95%
		{suites.SingleStream, 6, 0, 6},
		{suites.Server, 7, 3, 10},
		{suites.Soak, 7, 3, 10},
	} {
		one := &cell{Run: &suites.Run{Scenario: c.scenario}, repetitions: reps(c.quiet, c.disturbed)}
		one.choose()
		if v := one.metric().Value; v.N != c.n || v.Value != 10+float64(c.n-1)/2 {
			t.Errorf("%s with %d quiet and %d disturbed repetitions has the number %+v", c.scenario, c.quiet, c.disturbed, v)
		}
	}
}

// TestSlowed takes a repetition beside which the loop of fixed work was slow for one that others disturbed, by what is known of the machine at the end.
func TestSlowed(t *testing.T) {
	t.Parallel()
	usable, err := hw.ThreadCPUs(0)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{watch: environment.NewWatch(os.DirFS("/"), 2, func() time.Duration { return 0 }), Options: Options{Host: &hw.Host{}}}
	pace, err := r.watch.Probe(usable)
	if err != nil {
		t.Fatal(err)
	}
	c := &cell{repetitions: []report.Repetition{{LoopNS: 1.05 * r.watch.Fastest()}, {LoopNS: 1.2 * pace}, {}, {Steal: 0.5}}}
	if n := r.quiet(c); n != 2 || c.repetitions[0].Disturbed || !c.repetitions[1].Disturbed || c.repetitions[2].Disturbed || !c.repetitions[3].Disturbed {
		t.Errorf("%d of the repetitions are taken for undisturbed: %+v", n, c.repetitions)
	}
}

// TestPlaces keeps the two sides of a connection where a run wants them, and leaves out what takes more processors than there are.
func TestPlaces(t *testing.T) {
	t.Parallel()
	r := &runner{Options: Options{Host: &hw.Host{}}}
	for _, c := range []struct {
		pin                      string
		allowed, server, clients []int
	}{
		{suites.Together, []int{5}, []int{5}, []int{5}},
		{suites.Together, []int{2, 5, 7}, []int{2}, []int{2}},
		{suites.Apart, []int{2, 5}, []int{2}, []int{5}},
		{suites.Apart, []int{2, 5, 7}, []int{2}, []int{5, 7}},
		{suites.Apart, []int{5}, nil, nil},
		{suites.Together, nil, nil, nil},
	} {
		r.Host.CPU.Affinity = c.allowed
		server, clients, err := r.places(c.pin)
		if !slices.Equal(server, c.server) || !slices.Equal(clients, c.clients) || (err == nil) != (c.server != nil) {
			t.Errorf("%s on %v: %v and %v, %v", c.pin, c.allowed, server, clients, err)
		}
	}
	var asked []string
	o := options(t, strings.Replace(small, "targets: [empty, peers]", "targets: [peers], pin: apart", 1), &scripted{name: "good", asked: &asked})
	o.Host.CPU.Affinity, o.Scenarios, o.Quick = []int{0}, []string{suites.SingleStream}, true
	result, err := Run(t.Context(), o)
	if err != nil || len(result.Runs) != 0 || len(result.LeftOut) != 1 || !strings.Contains(result.LeftOut[0].Why, "keep the two sides apart") {
		t.Errorf("on one processor %+v are measured, %+v left out, %v", result.Runs, result.LeftOut, err)
	}
}

// TestRunEnds leaves nothing when its caller gives up.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	var asked []string
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t, small, &scripted{name: "good", asked: &asked})
	o.Say = func(string) { cancel() }
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("a suite that is given up ends with %v", err)
	}
	o = options(t, small)
	o.Targets = []string{"nobody"}
	o.Scenarios = []string{suites.Swap}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no run") {
		t.Errorf("nothing to measure ends with %v", err)
	}
}

// TestDifferences compares a host with what a suite expects.
func TestDifferences(t *testing.T) {
	t.Parallel()
	s, err := suites.Of("m5")
	if err != nil {
		t.Fatal(err)
	}
	var e report.Environment
	e.CPU.Arch, e.CPU.Model, e.CPU.Level, e.CPU.Features, e.CPU.Threads, e.CPU.SMT = "amd64", "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "x86-64-v4", []string{"avx512f", "avx512bw", "avx512vl"}, 16, "on"
	e.Memory.TotalBytes, e.Memory.NUMANodes, e.Memory.TransparentHugePages, e.Instance.Family = 62<<30, 1, "madvise", "m5"
	if d := differences(s, "", &e); len(d) != 0 {
		t.Errorf("an m5.4xlarge differs from itself in %v", d)
	}
	e.CPU.Model, e.CPU.Level, e.CPU.Features, e.Instance.Family, e.Memory.TotalBytes = "AMD EPYC", "x86-64-v3", []string{"avx2"}, "", 128<<30
	var what []string
	for _, d := range differences(s, "", &e) {
		what = append(what, d.What)
	}
	if want := []string{"instance family", "processor", "instruction set", "features", "memory for each logical processor"}; !slices.Equal(what, want) {
		t.Errorf("another host differs in %q, want %q", what, want)
	}
	if d := differences(s, "m5", &e); len(d) != 4 {
		t.Errorf("a host that is taken for an m5 differs in %v", d)
	}
}

// TestOverloaded counts what becomes of an overload's requests.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	all := [][]load.Request{{
		{Due: 5 * ms, Left: 5 * ms, Back: 6 * ms, Fate: load.Answered}, // before the first could be late
		{Due: 20 * ms, Left: 21 * ms, Back: 25 * ms, Fate: load.Answered},
		{Due: 20 * ms, Left: 20 * ms, Back: 31 * ms, Fate: load.Answered}, // too late
		{Due: 20 * ms, Left: 20 * ms, Back: 21 * ms, Fate: load.Refused},
		{Due: 20 * ms, Left: 20 * ms, Back: 30 * ms, Fate: load.Late},
		{Due: 20 * ms, Left: 31 * ms, Fate: load.Unsent},
		{Due: 20 * ms, Left: 20 * ms},
	}}
	m, unsent := overloaded(all, 4, 110*ms, 10*ms)
	if c := m.Counts; c.Sent != 6 || c.Answered != 1 || c.Rows != 4 || c.Refused != 1 || c.Late != 4 || unsent != 1 || m.Duration != 100*ms || m.PerSecond() != 10 {
		t.Errorf("the requests are counted as %+v, %d unsent, %v a second", c, unsent, m.PerSecond())
	}
}

// TestJudge says what speaks against a run.
func TestJudge(t *testing.T) {
	t.Parallel()
	reps := func(n int, sent int64, steady bool, latency func(i int) time.Duration) []report.Repetition {
		var all []report.Repetition
		for i := range n {
			rep := report.Repetition{Steady: steady, Counts: report.Counts{Sent: sent}, Latency: report.NewHistogram()}
			rep.Latency.Record(latency(i))
			all = append(all, rep)
		}
		return all
	}
	flat := func(int) time.Duration { return time.Millisecond }
	for _, c := range []struct {
		scenario string
		reps     []report.Repetition
		want     string
	}{
		{suites.SingleStream, reps(6, 1000, true, flat), ""},
		{suites.SingleStream, reps(6, 1000, false, flat), "not steady in 6 of 6"},
		{suites.SingleStream, reps(6, 63, true, flat), "fewer than 64"},
		{suites.ColdStart, reps(6, 1, true, flat), ""},
		{suites.Soak, reps(9, 1000, true, flat), ""},
		{suites.Soak, reps(9, 1000, true, func(i int) time.Duration { return time.Duration(10+i) * time.Millisecond }), "rose from"},
	} {
		one := &cell{Run: &suites.Run{Scenario: c.scenario}, repetitions: c.reps}
		one.judge()
		if got := fmt.Sprint(one.why); (c.want == "") != (len(one.why) == 0) || !strings.Contains(got, c.want) {
			t.Errorf("%s is judged %s, want %q", c.scenario, got, c.want)
		}
	}
}

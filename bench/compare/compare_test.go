package compare

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/bench/report"
)

// result has one run of each scenario, with repetitions whose latencies have these medians, in microseconds.
func result(medians ...float64) *report.Result {
	r := &report.Result{Noise: report.Noise{Quiet: true}, Suite: report.SuiteRun{Name: "local"}}
	for _, scenario := range []struct {
		name   string
		metric report.Metric
	}{
		{"SingleStream", report.Metric{Name: "90th percentile latency", Unit: "ns"}},
		{"Offline", report.Metric{Name: "rows a second", Unit: "rows/s", Higher: true}},
	} {
		run := report.Run{
			Scenario: scenario.name, Model: "fraud", Target: "lane", Parameters: report.Parameters{Rows: 1},
			Summary: report.Summary{Metric: scenario.metric}, Verdict: report.Verdict{Valid: true},
		}
		for _, us := range medians {
			h := report.NewHistogram()
			for n := range 100 {
				h.Record(time.Duration(1000 * us * (0.9 + float64(n)/500)))
			}
			run.Repetitions = append(run.Repetitions, report.Repetition{DurationNS: 1e9, Counts: report.Counts{Answered: int64(1e6 / us), Rows: int64(1e6 / us)}, Latency: h})
		}
		r.Runs = append(r.Runs, run)
	}
	return r
}

var usual = Options{Threshold: 0.03, Alpha: 0.05}

// A clear change is found in either direction, for metrics of either kind; the interval holds it.
func TestClearChanges(t *testing.T) {
	t.Parallel()
	quick, slow := result(100, 101, 99, 100.5, 99.5), result(112, 110, 111, 109, 110.5)
	c := Of(quick, slow, usual)
	if !c.Regressed() || len(c.Changes) != 2 || len(c.Warnings) != 0 {
		t.Fatalf("%+v", c)
	}
	for _, ch := range c.Changes {
		want := 0.105
		if ch.Higher {
			want = 1/1.105 - 1
		}
		if ch.Verdict != Worse || math.Abs(ch.Change-want) > 0.01 || ch.Low > ch.Change || ch.High < ch.Change || math.Abs(ch.P-2.0/252) > 1e-9 {
			t.Errorf("%+v", ch)
		}
	}
	back := Of(slow, quick, usual)
	if back.Regressed() || back.Changes[0].Verdict != Better || back.Changes[1].Verdict != Better {
		t.Errorf("%+v", back.Changes)
	}
}

// TestQuietest compares the quietest repetitions of calls in the process, whatever others did to the rest, and of nothing else.
func TestQuietest(t *testing.T) {
	t.Parallel()
	a, b := result(100, 101, 130, 250, 140), result(190, 120, 101, 300, 170)
	for _, r := range []*report.Result{a, b} {
		engine := r.Runs[0]
		engine.Target = "engine"
		engine.Repetitions[0].LeftOut = true
		r.Runs = append(r.Runs, engine)
		for i := range r.Runs {
			r.Runs[i].Parameters.Outstanding, r.Runs[i].Parameters.Arrivals = 1, "closed"
		}
		r.Targets = []report.TargetInfo{{Name: "engine", Kind: report.KindInProcess}, {Name: "lane", Kind: report.KindServer}}
	}
	c := Of(a, b, usual)
	if len(c.Quietest) != 1 || !strings.Contains(c.Quietest[0].Key, "engine") || math.Abs(c.Quietest[0].Change-0.01) > 0.002 {
		t.Fatalf("the quietest are %+v, want 1%% of the engine alone", c.Quietest)
	}
	for _, ch := range c.Changes {
		if ch.Verdict != Unknown {
			t.Errorf("%s, %s: %s, though the repetitions are 190%% apart", ch.Key, ch.Metric, ch.Verdict)
		}
	}
	var text strings.Builder
	if err := c.Write(&text); err != nil || !strings.Contains(text.String(), "1 of 1 are within 3% of each other") {
		t.Errorf("%v, %s", err, text.String())
	}
	b.Runs[2].Repetitions = b.Runs[2].Repetitions[:2]
	if c := Of(a, b, usual); math.Abs(c.Quietest[0].Change-0.2) > 0.01 {
		t.Errorf("without its quietest repetition the second is %+v", c.Quietest)
	}
	for i := range b.Runs[2].Repetitions {
		b.Runs[2].Repetitions[i].Latency = nil // as in a file that was kept without
	}
	if c := Of(a, b, usual); len(c.Quietest) != 0 {
		t.Errorf("without histograms the quietest are %+v", c.Quietest)
	}
}

// What is beyond chance but below the threshold is no regression; nor is what chance does; two figures agree only where all that is
// possible is within the threshold; and three repetitions show nothing.
func TestNoChange(t *testing.T) {
	t.Parallel()
	a := result(100, 101, 99, 100.5, 99.5)
	for name, c := range map[string]struct {
		b    *report.Result
		want Verdict
	}{
		"small":        {result(101, 101.1, 100.9, 101.3, 100.7), Agree},
		"at the edge":  {result(102.6, 102.7, 102.5, 102.9, 102.3), Unknown},
		"mixed":        {result(95, 108, 99.2, 104, 110), Unknown},
		"itself":       {a, Agree},
		"too few":      {result(120, 121, 122), Worse}, // 5 and 3: 2/56 is below 0.05
		"much too few": {result(120, 121), Unknown},    // 2/21 is not
	} {
		got := Of(a, c.b, usual)
		for _, ch := range got.Changes {
			if ch.Verdict != c.want {
				t.Errorf("%s: %+v", name, ch)
			}
		}
	}
}

// A repetition's own number is what is compared, where it is told, and what was left out of a result is left out of the comparison.
func TestNumbersOfRepetitions(t *testing.T) {
	t.Parallel()
	a, b := result(100, 101, 99, 100.5, 99.5, 100.2), result(100, 101, 99, 100.5, 99.5, 100.2)
	for i, value := range []float64{0.71, 0.72, 0.7, 0.715, 0.705, 0.71} {
		a.Runs[0].Repetitions[i].Value, b.Runs[0].Repetitions[i].Value = value, 2*value
	}
	b.Runs[0].Repetitions[5].Value, b.Runs[0].Repetitions[5].LeftOut = 50, true
	a.Runs[0].Variant, b.Runs[0].Variant = "forest", "treelite"
	c := Of(a, b, usual)
	if ch := c.Changes[0]; math.Abs(ch.Change-1) > 0.03 || len(ch.A.Values) != 6 || len(ch.B.Values) != 5 || ch.Verdict != Worse {
		t.Errorf("%+v", ch)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "by forest, then by treelite") {
		t.Errorf("warnings: %v", c.Warnings)
	}
	var text strings.Builder
	if err := c.Write(&text); err != nil || !strings.Contains(text.String(), "2 compared: 1 agree within 3%, 0 better, 1 worse, 0 that cannot be told; as they stand, 1 of 2 that may be used are within 3%") {
		t.Errorf("%v: %s", err, text.String())
	}
}

// A run that is not to be used is shown, and not judged; one that is missing is named; hosts and noise are warned of.
func TestWhatCannotBeTold(t *testing.T) {
	t.Parallel()
	a, b := result(100, 100, 101, 99, 98), result(200, 201, 202, 203, 204)
	b.Runs[0].Verdict = report.Verdict{Why: []string{"it was not steady"}}
	b.Runs[1].Parameters.Rows = 64
	b.Environment.Host, b.Noise = "other", report.Noise{Why: []string{"others took 12%"}}
	c := Of(a, b, usual)
	if c.Regressed() || len(c.Changes) != 1 || !strings.Contains(c.Changes[0].Why, "not steady") || c.Changes[0].Change < 0.9 {
		t.Errorf("%+v", c.Changes)
	}
	for i := range 3 {
		a.Runs[0].Repetitions[i].Disturbed = true
	}
	b.Runs[0].Verdict = report.Verdict{Valid: true}
	if got := Of(a, b, usual).Changes[0]; got.Verdict != Unknown || !got.usable || !strings.Contains(got.Why, "of the first, others disturbed most") {
		t.Errorf("a run that was disturbed for the most part is compared: %+v", got)
	}
	for i := range 3 {
		a.Runs[0].Repetitions[i].Disturbed = false
		b.Runs[0].Repetitions[i].LoopNS = 1200
	}
	b.Environment.Host, a.Noise.LoopFastestNS, b.Noise.LoopFastestNS = a.Environment.Host, 1000, 1150
	if got := Of(a, b, usual).Changes[0]; got.Verdict != Unknown || !strings.Contains(got.Why, "of the second, others disturbed most") {
		t.Errorf("a run on a machine that was slower than it can be is compared: %+v", got)
	}
	if len(c.OnlyA) != 1 || len(c.OnlyB) != 1 || !strings.Contains(c.OnlyB[0], "rows=64") {
		t.Errorf("only in one: %v, %v", c.OnlyA, c.OnlyB)
	}
	if said := strings.Join(c.Warnings, "\n"); !strings.Contains(said, "hosts differ") || !strings.Contains(said, "others took 12%") {
		t.Errorf("warnings: %s", said)
	}
	var text strings.Builder
	if err := c.Write(&text); err != nil || !strings.Contains(text.String(), "1 that cannot be told") {
		t.Errorf("%v: %s", err, text.String())
	}
}

// Of two samples of one distribution a difference is shown in no more than a share of alpha, and the interval of a true shift
// of 10% leaves it out in no more than that. Seeds are fixed, so the counts are too.
func TestErrorRates(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	draw := func(n int, scale float64) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = scale * math.Exp(0.05*random.NormFloat64())
		}
		return values
	}
	const trials = 400
	for _, n := range []int{5, 8, 50} {
		shown, missed := 0, 0
		for range trials {
			if chance(draw(n, 1), draw(n, 1)) < 0.05 {
				shown++
			}
			if _, low, high := shift(draw(n, 1), draw(n, 1.1), 0.05); low > 0.1 || high < 0.1 {
				missed++
			}
		}
		// Three standard deviations above 5% of 400.
		if most := 20 + 3*4; shown > most || missed > most || missed == 0 {
			t.Errorf("%d repetitions: %d false alarms and %d misses of %d", n, shown, missed, trials)
		}
	}
}

// The largest number of ratios is left out that alpha allows, which tables of the U test tell.
func TestLeaveOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, m, want int }{{3, 3, 0}, {4, 4, 1}, {5, 5, 3}, {8, 8, 14}, {10, 10, 24}, {3, 8, 3}} {
		if got := leaveOut(c.n, c.m, 0.05); got != c.want {
			t.Errorf("%d and %d: %d, want %d", c.n, c.m, got, c.want)
		}
	}
	if a, b := leaveOut(21, 21, 0.05), leaveOut(20, 20, 0.05); a <= b || a > b+20 {
		t.Errorf("the normal distribution gives %d for 21, the exact one %d for 20", a, b)
	}
}

// Every metric of a run is compared when asked for, the scenario's first and none twice.
func TestAll(t *testing.T) {
	t.Parallel()
	a := result(100, 101, 99)
	c := Of(a, a, Options{Threshold: 0.03, Alpha: 0.05, All: true})
	var names []string
	for _, ch := range c.Changes {
		names = append(names, ch.Scenario+" "+ch.Metric)
	}
	want := []string{
		"SingleStream 90th percentile", "SingleStream median", "SingleStream 99th percentile", "SingleStream rows a second",
		"Offline rows a second", "Offline median", "Offline 99th percentile",
	}
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// Package compare says what is different between two results of benchmark suites: for each measurement that both have, the
// medians of the repetitions, how much they have changed, and whether that is more than chance would do.
package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/aclements/go-moremath/stats"

	"github.com/picket-ml/picket/bench/report"
)

// Options is what counts as a change.
type Options struct {
	// Threshold is the change below which nothing is a regression, and up to which two figures agree, in parts of the first: 0.03.
	Threshold float64
	// Alpha is the probability of chance below which a change is significant: 0.05.
	Alpha float64
	// All compares more than the metric of each scenario: median and 99th percentile of latency, and rows a second.
	All bool
}

// Comparison is what there is to say of two results.
type Comparison struct {
	A, B     string   `json:"-"` // files
	Warnings []string `json:"warnings"`
	Changes  []Change `json:"changes"`
	// OnlyA and OnlyB are the measurements that the other result does not have.
	OnlyA []string `json:"only_in_first"`
	OnlyB []string `json:"only_in_second"`
	// Quietest is told beside, of models that are called in this process.
	Quietest []Quietest `json:"quietest"`

	threshold float64
}

// Change is one measurement in both results.
type Change struct {
	Scenario string `json:"scenario"`
	Model    string `json:"model"`
	Target   string `json:"target"`
	Key      string `json:"key"`
	Metric   string `json:"metric"`
	Unit     string `json:"unit"`
	Higher   bool   `json:"higher_is_better"`
	A        Sample `json:"first"`
	B        Sample `json:"second"`
	// Change is how much more B is, in parts of A, by the median of all pairs of repetitions (Hodges and Lehmann); Low and High
	// are its confidence interval, which holds 1 - alpha at least, or all there is where the repetitions are too few.
	Change float64 `json:"change"`
	Low    float64 `json:"change_low"`
	High   float64 `json:"change_high"`
	// P is the probability that chance alone makes such a difference (Mann and Whitney's U test, two-sided, exact for few
	// repetitions).
	P       float64 `json:"p"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why,omitempty"` // it cannot be told

	usable bool // neither result calls it invalid, and both have it
}

// Sample is one side's repetitions.
type Sample struct {
	Median float64   `json:"median"`
	Values []float64 `json:"values"`
}

// Verdict is what a change comes to.
type Verdict string

// The verdicts. A change is Worse or Better if it is significant and beyond the threshold. Two figures Agree where the whole interval
// of the change is within the threshold: that no difference shows is not enough, as noise hides any.
const (
	Worse   Verdict = "worse"
	Better  Verdict = "better"
	Agree   Verdict = "agree"
	Unknown Verdict = "cannot be told"
)

// near is how many of the changes are below the threshold, whatever chance has to do with it, of the figures that may be used.
func (c *Comparison) near() (n, of int) {
	for i := range c.Changes {
		if ch := &c.Changes[i]; ch.usable {
			of++
			if math.Abs(ch.Change) <= c.threshold {
				n++
			}
		}
	}
	return n, of
}

// Regressed tells whether anything has become worse.
func (c *Comparison) Regressed() bool {
	return slices.ContainsFunc(c.Changes, func(c Change) bool { return c.Verdict == Worse })
}

// Of compares two results. Both have been made by the same suite, as a rule.
func Of(a, b *report.Result, o Options) *Comparison {
	c := &Comparison{Warnings: warnings(a, b), Changes: []Change{}, OnlyA: []string{}, OnlyB: []string{}, Quietest: []Quietest{}, threshold: o.Threshold}
	kinds := map[string]report.Kind{}
	for _, t := range a.Targets {
		kinds[t.Name] = t.Kind
	}
	// How fast the machine can be is known from both.
	fastest := a.Noise.LoopFastestNS
	if f := b.Noise.LoopFastestNS; a.Environment.Host == b.Environment.Host && f > 0 && (f < fastest || fastest == 0) {
		fastest = f
	}
	other := map[string]*report.Run{}
	for i := range b.Runs {
		other[b.Runs[i].Key()] = &b.Runs[i]
	}
	for i := range a.Runs {
		first := &a.Runs[i]
		second, found := other[first.Key()]
		if !found {
			c.OnlyA = append(c.OnlyA, first.Key())
			continue
		}
		delete(other, first.Key())
		if first.Variant != second.Variant {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s: the model was run by %s, then by %s", first.Key(), orNone(first.Variant), orNone(second.Variant)))
		}
		for _, m := range metrics(first, o.All) {
			c.Changes = append(c.Changes, m.change(first, second, fastest, o))
		}
		if q, is := quietest(first, second, kinds); is {
			c.Quietest = append(c.Quietest, q)
		}
	}
	for i := range b.Runs {
		if key := b.Runs[i].Key(); other[key] != nil {
			c.OnlyB = append(c.OnlyB, key)
		}
	}
	return c
}

// metric is a number of every repetition.
type metric struct {
	name, unit string
	higher     bool
	of         func(*report.Repetition) float64
}

func latency(name string, q float64) metric {
	return metric{name, "ns", false, func(r *report.Repetition) float64 {
		if r.Latency == nil {
			return 0
		}
		return float64(r.Latency.Quantile(q))
	}}
}

func perSecond(name, unit string, count func(*report.Counts) int64) metric {
	return metric{name, unit, true, func(r *report.Repetition) float64 {
		if r.DurationNS <= 0 {
			return 0
		}
		return float64(count(&r.Counts)) / (float64(r.DurationNS) / 1e9)
	}}
}

// metrics are what is compared of a run: its scenario's, first. In files of earlier versions repetitions do not tell their number,
// which is read off what was counted.
func metrics(r *report.Run, all bool) []metric {
	requests := perSecond("answers a second", "requests/s", func(c *report.Counts) int64 { return c.Answered })
	rows := perSecond("rows a second", "rows/s", func(c *report.Counts) int64 { return c.Rows })
	own := r.Summary.Metric
	var first metric
	switch {
	case slices.ContainsFunc(r.Repetitions, func(rep report.Repetition) bool { return rep.Value != 0 }):
		first = metric{strings.TrimSuffix(own.Name, " latency"), own.Unit, own.Higher, func(rep *report.Repetition) float64 { return rep.Value }}
	case own.Unit == "requests/s":
		first = requests
	case own.Higher:
		first = rows
	case strings.Contains(own.Name, "99.9"):
		first = latency("99.9th percentile", 0.999)
	case strings.Contains(own.Name, "99"):
		first = latency("99th percentile", 0.99)
	case strings.Contains(own.Name, "90"):
		first = latency("90th percentile", 0.9)
	default:
		first = latency("median", 0.5)
	}
	if !all {
		return []metric{first}
	}
	list := []metric{first}
	for _, m := range []metric{latency("median", 0.5), latency("99th percentile", 0.99), rows} {
		if m.name != first.name {
			list = append(list, m)
		}
	}
	return list
}

func (m metric) sample(r *report.Run) Sample {
	s := Sample{Values: []float64{}}
	for i := range r.Repetitions {
		if v := m.of(&r.Repetitions[i]); v > 0 && !r.Repetitions[i].LeftOut {
			s.Values = append(s.Values, v)
		}
	}
	s.Median = median(slices.Clone(s.Values))
	return s
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// maxRepetitions bounds the pairs of them that are looked at: result files come from anywhere.
const maxRepetitions = 1000

func (m metric) change(a, b *report.Run, fastest float64, o Options) Change {
	c := Change{
		Scenario: a.Scenario, Model: a.Model, Target: a.Target, Key: a.Key(), Metric: m.name, Unit: m.unit, Higher: m.higher,
		A: m.sample(a), B: m.sample(b), P: 1, Verdict: Unknown,
	}
	switch {
	case !a.Verdict.Valid:
		c.Why = "the first is not to be used: " + strings.Join(a.Verdict.Why, "; ")
	case !b.Verdict.Valid:
		c.Why = "the second is not to be used: " + strings.Join(b.Verdict.Why, "; ")
	case len(c.A.Values) == 0 || len(c.B.Values) == 0:
		c.Why = "one of them has no such figure"
	}
	if len(c.A.Values) == 0 || len(c.B.Values) == 0 {
		return c
	}
	if len(c.A.Values) > maxRepetitions || len(c.B.Values) > maxRepetitions {
		c.Why = fmt.Sprintf("there are more than %d repetitions, which no suite makes", maxRepetitions)
		return c
	}
	c.P = chance(c.A.Values, c.B.Values)
	c.Change, c.Low, c.High = shift(c.A.Values, c.B.Values, o.Alpha)
	c.usable = c.Why == ""
	switch {
	case !c.usable:
	case mostlyDisturbed(a, fastest):
		c.Why = "of the first, others disturbed most of the repetitions that count"
	case mostlyDisturbed(b, fastest):
		c.Why = "of the second, others disturbed most of the repetitions that count"
	case least(len(c.A.Values), len(c.B.Values)) >= o.Alpha:
		c.Why = fmt.Sprintf("%d and %d repetitions are too few to tell anything from chance", len(c.A.Values), len(c.B.Values))
	case c.P < o.Alpha && math.Abs(c.Change) >= o.Threshold:
		if c.Change > 0 == c.Higher {
			c.Verdict = Better
		} else {
			c.Verdict = Worse
		}
	case max(-c.Low, c.High) <= o.Threshold:
		c.Verdict = Agree
	default:
		c.Why = fmt.Sprintf("the repetitions scatter too much: an agreement to within %g%% and a change of %+.0f%% are both possible", 100*o.Threshold, 100*furthest(c.Low, c.High))
	}
	return c
}

// mostlyDisturbed reports whether a run's figures are those of a machine that had other work, which is never the same twice: more than half of
// the repetitions that count were disturbed, which a median does not bear.
func mostlyDisturbed(r *report.Run, fastest float64) bool {
	disturbed, of := 0, 0
	for i := range r.Repetitions {
		rep := &r.Repetitions[i]
		if rep.LeftOut {
			continue
		}
		of++
		if rep.Disturbed || report.Slowed(rep.LoopNS, fastest) {
			disturbed++
		}
	}
	return 2*disturbed > of
}

// furthest is the one of two that is further from 0.
func furthest(a, b float64) float64 {
	if math.Abs(a) > math.Abs(b) {
		return a
	}
	return b
}

// chance is the two-sided p of Mann and Whitney.
func chance(a, b []float64) float64 {
	r, err := stats.MannWhitneyUTest(a, b, stats.LocationDiffers)
	if err != nil { // all values are equal
		return 1
	}
	return r.P
}

// least is the smallest p that so many repetitions can come to.
func least(n, m int) float64 {
	ways := 1.0 // n+m over n
	for i := 1; i <= n; i++ {
		ways = ways * float64(m+i) / float64(i)
	}
	return min(1, 2/ways)
}

// shift estimates how much larger b is, in parts of a: the median of the ratios of all pairs, and those of them between which
// the true one lies with a probability of 1 - alpha at least. The ratios are those pairs of which U counts how many are above
// 1, so that its distribution says how many to leave out at either end.
func shift(a, b []float64, alpha float64) (change, low, high float64) {
	ratios := make([]float64, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			ratios = append(ratios, y/x)
		}
	}
	slices.Sort(ratios)
	out := leaveOut(len(a), len(b), alpha)
	return median(slices.Clone(ratios)) - 1, ratios[out] - 1, ratios[len(ratios)-1-out] - 1
}

// mostExact is the number of repetitions up to which U's distribution is computed; the normal one serves beyond.
const mostExact = 20

func leaveOut(n, m int, alpha float64) int {
	if n > mostExact || m > mostExact {
		// Mean and deviation of U.
		mean, deviation := float64(n*m)/2, math.Sqrt(float64(n*m*(n+m+1))/12)
		return max(0, int(mean+stats.StdNormal.InvCDF(alpha/2)*deviation))
	}
	u := stats.UDist{N1: n, N2: m}
	out := 0
	for out < (n*m-1)/2 && u.CDF(float64(out)) <= alpha/2 {
		out++
	}
	return out
}

// warnings say why the two should not be compared, or with care.
func warnings(a, b *report.Result) []string {
	list := []string{}
	warn := func(format string, values ...any) { list = append(list, fmt.Sprintf(format, values...)) }
	ea, eb := &a.Environment, &b.Environment
	if ea.Host != eb.Host {
		warn("the hosts differ: %s (%s), and %s (%s)", ea.Host, ea.CPU.Model, eb.Host, eb.CPU.Model)
	}
	for _, d := range []struct{ what, a, b string }{
		{"processor", ea.CPU.Model, eb.CPU.Model},
		{"microcode", ea.CPU.Microcode, eb.CPU.Microcode},
		{"kernel", ea.Kernel, eb.Kernel},
		{"governor", ea.CPU.Governor, eb.CPU.Governor},
		{"SMT", ea.CPU.SMT, eb.CPU.SMT},
		{"number of usable CPUs", fmt.Sprint(ea.CPU.Allowed), fmt.Sprint(eb.CPU.Allowed)},
		{"mask", a.Suite.Mask, b.Suite.Mask},
		{"suite", a.Suite.Name, b.Suite.Name},
		{"Go version", a.Tool.Go, b.Tool.Go},
	} {
		if d.a != d.b {
			warn("%s: %s, then %s", d.what, orNone(d.a), orNone(d.b))
		}
	}
	if a.Suite.Name == b.Suite.Name && a.Suite.Digest != b.Suite.Digest {
		warn("the file of suite %s has changed between the two", a.Suite.Name)
	}
	for _, side := range []struct {
		which string
		r     *report.Result
	}{{"first", a}, {"second", b}} {
		if !side.r.Noise.Quiet {
			warn("the machine was not quiet in the %s: %s", side.which, strings.Join(side.r.Noise.Why, "; "))
		}
		if side.r.Suite.Quick {
			warn("the %s is a shortened run, which is no measurement", side.which)
		}
		for _, mark := range side.r.Marks {
			warn("the %s is marked: %s", side.which, mark)
		}
	}
	return list
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

package page

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/roofline"
)

// The size of a drawing and of what is around it, in its own units.
const (
	width, height = 720.0, 340.0
	left, right   = 76.0, 16.0
	top, bottom   = 14.0, 46.0
)

// chart is a drawing of lines.
type chart struct {
	ID, Title, Text string // the text says what is to be seen, for who does not see it
	XLabel, YLabel  string
	XTicks, YTicks  []tick
	Series          []series
	Marks           []mark
}

type tick struct {
	At    float64
	Label string
}

// series is a line with points; Style numbers its colour, its dashes and the form of its points.
type series struct {
	Name   string
	Style  int
	Path   string
	Points []point
}

type point struct {
	X, Y   float64
	Text   string
	Hollow bool // it is not to be used
}

// mark is a line of the drawing's own, such as a bound.
type mark struct {
	X1, Y1, X2, Y2 float64
	Label          string
	LabelX, LabelY float64
}

// The drawing's frame.
func (c *chart) Left() float64   { return left }
func (c *chart) Right() float64  { return width - right }
func (c *chart) Top() float64    { return top }
func (c *chart) Bottom() float64 { return height - bottom }

// axis turns values into places.
type axis struct {
	from, to   float64 // values
	start, end float64 // places
	log        bool
}

func (a axis) at(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		v, from, to = math.Log10(max(v, math.SmallestNonzeroFloat64)), math.Log10(from), math.Log10(to)
	}
	if to == from {
		return a.start
	}
	return round(a.start + (v-from)/(to-from)*(a.end-a.start))
}

func round(v float64) float64 { return math.Round(10*v) / 10 }

// logAxis spans whole decades, or halves of them where that is enough.
func logAxis(low, high, start, end float64) axis {
	if !(low > 0) || !(high > 0) || math.IsInf(high, 0) {
		low, high = 1, 10
	}
	steps := []float64{1, 2, 5}
	floor := math.Pow(10, math.Floor(math.Log10(low)))
	from, to := floor, floor
	for _, s := range steps {
		if floor*s <= low*1.0001 {
			from = floor * s
		}
	}
	for to < high*0.9999 {
		for _, s := range steps {
			if to = floor * s; to >= high*0.9999 {
				break
			}
		}
		floor *= 10
	}
	if to <= from {
		to = 10 * from
	}
	return axis{from, to, start, end, true}
}

// ticks are 1, 2 and 5 of each decade, or 1 alone where there are many.
func (a axis) ticks(label func(float64) string) []tick {
	var list []tick
	decades := math.Log10(a.to / a.from)
	for d := math.Pow(10, math.Floor(math.Log10(a.from))); d <= a.to*1.0001; d *= 10 {
		for _, s := range []float64{1, 2, 5} {
			if v := d * s; v >= a.from*0.9999 && v <= a.to*1.0001 && (s == 1 || decades <= 3.1) {
				list = append(list, tick{a.at(v), label(v)})
			}
		}
	}
	return list
}

// linearAxis goes from zero to a round number.
func linearAxis(high, start, end float64) (axis, float64) {
	if !(high > 0) || math.IsInf(high, 0) {
		high = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for _, s := range []float64{0.1, 0.2, 0.25, 0.5, 1, 2} {
		if high/(step*s) <= 6 {
			step *= s
			break
		}
	}
	return axis{0, step * math.Ceil(high/step*0.9999), start, end, false}, step
}

func nanoseconds(v float64) string { return report.Quantity(v, "ns") }

// tickTime is a round time without needless digits.
func tickTime(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}, {1, "ns"}} {
		if v >= u.size {
			return fmt.Sprintf("%g %s", math.Round(v/u.size*100)/100, u.name)
		}
	}
	return fmt.Sprintf("%g ns", v)
}

func tickRate(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g M", math.Round(v/1e4)/100)
	case v >= 1e3:
		return fmt.Sprintf("%g k", math.Round(v/10)/100)
	}
	return fmt.Sprintf("%g", math.Round(v*100)/100)
}

// quantiles are where a curve of latencies has points.
var quantiles = []float64{0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99999}

// latencyChart has, of each run, the latency that a share of the requests stays below. The scale is that of how rare the others
// are: every decade is one of ten times fewer.
func latencyChart(id string, runs []*report.Run) *chart {
	c := &chart{ID: id + "-latency", Title: "Latency by percentile", XLabel: "percentile", YLabel: "latency"}
	type line struct {
		name   string
		values []float64
	}
	var lines []line
	low, high, most := math.Inf(1), 0.0, 0
	for _, run := range runs {
		all := report.NewHistogram()
		for i := range run.Repetitions {
			if h := run.Repetitions[i].Latency; h != nil {
				all.Add(h)
			}
		}
		if all.TotalCount() == 0 {
			continue
		}
		l := line{name: run.Target}
		for _, q := range quantiles {
			// A percentile that is that of less than five requests is chance.
			if q > 0.5 && (1-q)*float64(all.TotalCount()) < 5 {
				break
			}
			v := max(1, float64(all.Quantile(q)))
			low, high = min(low, v), max(high, v)
			l.values = append(l.values, v)
		}
		most = max(most, len(l.values))
		lines = append(lines, l)
	}
	if len(lines) == 0 {
		return nil
	}
	rarest := 1 / (1 - quantiles[most-1])
	x := axis{1, max(rarest, 100), left, width - right, true}
	y := logAxis(low, high, height-bottom, top)
	for _, p := range []struct {
		rare  float64
		label string
	}{{1, "0"}, {2, "50"}, {10, "90"}, {100, "99"}, {1000, "99.9"}, {10_000, "99.99"}, {100_000, "99.999"}} {
		if p.rare <= x.to*1.01 {
			c.XTicks = append(c.XTicks, tick{x.at(p.rare), p.label})
		}
	}
	c.YTicks = y.ticks(tickTime)
	var said []string
	for i, l := range lines {
		s := series{Name: l.name, Style: i % styles}
		for n, v := range l.values {
			s.Points = append(s.Points, point{X: x.at(1 / (1 - quantiles[n])), Y: y.at(v), Text: fmt.Sprintf("%s: %s of the requests within %s", l.name, shareText(quantiles[n]), nanoseconds(v))})
		}
		s.Path = pathOf(s.Points)
		c.Series = append(c.Series, s)
		said = append(said, fmt.Sprintf("%s from %s to %s", l.name, nanoseconds(l.values[0]), nanoseconds(l.values[len(l.values)-1])))
	}
	c.Text = "Latency by percentile on logarithmic scales: " + strings.Join(said, "; ") + "."
	return c
}

func shareText(q float64) string { return fmt.Sprintf("%.5g%%", 100*q) }

// styles is how many styles of lines there are.
const styles = 8

func pathOf(points []point) string {
	var d strings.Builder
	for i, p := range points {
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(&d, "%s%g %g", verb, p.X, p.Y)
	}
	return d.String()
}

// rateCharts have, of scenario Server, the 99th percentile at every rate that was tried.
func rateCharts(id string, r *report.Result, model string) []*chart {
	var charts []*chart
	for g, runs := range r.Groups(model) {
		runs = slices.DeleteFunc(slices.Clone(runs), func(run *report.Run) bool { return len(run.Curve) == 0 })
		if len(runs) == 0 {
			continue
		}
		c := &chart{
			ID: fmt.Sprintf("%s-rate%d", id, g), Title: fmt.Sprintf("Latency against throughput: %s, %s", runs[0].Scenario, &runs[0].Parameters),
			XLabel: "answers a second", YLabel: "99th percentile of latency",
		}
		low, high, fastest := math.Inf(1), 0.0, 0.0
		for _, run := range runs {
			for _, p := range run.Curve {
				v := max(1, float64(p.P99NS))
				low, high, fastest = min(low, v), max(high, v), max(fastest, p.AchievedPerS)
			}
		}
		bound := float64(runs[0].Parameters.LatencyBoundNS)
		if bound > 0 {
			low, high = min(low, bound), max(high, bound)
		}
		x, step := linearAxis(fastest, left, width-right)
		y := logAxis(low, high, height-bottom, top)
		for v := 0.0; v <= x.to*1.0001; v += step {
			c.XTicks = append(c.XTicks, tick{x.at(v), tickRate(v)})
		}
		c.YTicks = y.ticks(tickTime)
		if bound > 0 {
			at := y.at(bound)
			c.Marks = append(c.Marks, mark{left, at, width - right, at, "bound: " + tickTime(bound), width - right - 4, at - 5})
		}
		var said []string
		for i, run := range runs {
			s := series{Name: run.Target, Style: i % styles}
			best := 0.0
			for _, p := range run.Curve {
				text := fmt.Sprintf("%s at %s answers a second (%s asked for): median %s, 99%% within %s", run.Target, tickRate(p.AchievedPerS), tickRate(p.RatePerS), nanoseconds(float64(p.P50NS)), nanoseconds(float64(p.P99NS)))
				if !p.Passed {
					text += "; not passed: " + p.Why
				} else {
					best = max(best, p.AchievedPerS)
				}
				s.Points = append(s.Points, point{x.at(p.AchievedPerS), y.at(max(1, float64(p.P99NS))), text, !p.Passed})
			}
			s.Path = pathOf(s.Points)
			c.Series = append(c.Series, s)
			said = append(said, fmt.Sprintf("%s up to %s answers a second within the bound", run.Target, tickRate(best)))
		}
		c.Text = "The 99th percentile of latency, on a logarithmic scale, against answers a second: " + strings.Join(said, "; ") + "."
		charts = append(charts, c)
	}
	return charts
}

// phaseRow is where a run's time went.
type phaseRow struct {
	Name  string
	Total string
	Parts []phasePart
	Text  string
}

type phasePart struct {
	Style   int
	X, Wide float64
	Text    string
}

type legend struct {
	Name  string
	Style int
}

// phases are bars of the mean time in each phase; the longest bar is that of the slowest run.
func phases(r *report.Result, model string) ([]phaseRow, []legend) {
	const full = 560.0
	var rows []phaseRow
	var names []legend
	longest := 0.0
	total := func(run *report.Run) float64 {
		sum := 0.0
		for _, p := range run.Phases {
			sum += max(0, p.MeanNS)
		}
		return sum
	}
	for i := range r.Runs {
		if r.Runs[i].Model == model {
			longest = max(longest, total(&r.Runs[i]))
		}
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Model != model || len(run.Phases) == 0 || !(longest > 0) || math.IsInf(longest, 0) {
			continue
		}
		line := phaseRow{Name: fmt.Sprintf("%s, %s, %s", run.Scenario, run.Target, &run.Parameters), Total: nanoseconds(total(run))}
		at, said := 0.0, []string{}
		for _, p := range run.Phases {
			style := slices.IndexFunc(names, func(l legend) bool { return l.Name == p.Name })
			if style < 0 {
				style = len(names)
				names = append(names, legend{p.Name, style % styles})
			}
			wide := max(0, p.MeanNS) / longest * full
			text := fmt.Sprintf("%s: %s, %.0f%%", p.Name, nanoseconds(p.MeanNS), 100*p.Share)
			line.Parts = append(line.Parts, phasePart{style % styles, round(at), round(wide), text})
			at += wide
			said = append(said, text)
		}
		line.Text = strings.Join(said, "; ")
		rows = append(rows, line)
	}
	return rows, names
}

// rooflinePart is the page's part about one host's roofline.
type rooflinePart struct {
	Host, When string
	Chart      *chart
	Peaks      []fact
	Kernels    []roofline.Kernel
	Notes      []string
}

func newRoofline(i int, r *roofline.Report) rooflinePart {
	p := rooflinePart{Host: r.Processor, When: r.Time.UTC().Format(time.DateOnly), Kernels: r.Kernels, Notes: r.Notes}
	for _, b := range r.Bandwidth {
		p.Peaks = append(p.Peaks, fact{"Read from " + b.Level, fmt.Sprintf("%.1f GB/s (%s, one core)", b.BytesPerS/1e9, bytesText(uint64(max(0, b.Bytes))))})
	}
	for _, o := range r.Operations {
		p.Peaks = append(p.Peaks, fact{o.Name, fmt.Sprintf("%.1f billion a second (one core)", o.PerS/1e9)})
	}
	p.Chart = rooflineChart(fmt.Sprintf("roofline%d", i), r)
	return p
}

// rooflineChart has a slope for each level of memory, the flat roof of vector compares, and a point for each kernel.
func rooflineChart(id string, r *roofline.Report) *chart {
	peak := r.Peak()
	if !(peak > 0) || len(r.Bandwidth) == 0 {
		return nil
	}
	c := &chart{ID: id, Title: "Roofline of one core", XLabel: "vector operations for a byte of the model and the rows", YLabel: "vector operations a second"}
	slowest, fastest := math.Inf(1), 0.0
	for _, b := range r.Bandwidth {
		slowest, fastest = min(slowest, b.BytesPerS), max(fastest, b.BytesPerS)
	}
	lowX, highX, lowY := peak/fastest/8, peak/slowest*4, peak/8
	for _, k := range r.Kernels {
		if k.Intensity() > 0 && k.OperationsPerS() > 0 {
			lowX, highX, lowY = min(lowX, k.Intensity()/2), max(highX, k.Intensity()*2), min(lowY, k.OperationsPerS()/2)
		}
	}
	x, y := logAxis(lowX, highX, left, width-right), logAxis(lowY, peak*1.5, height-bottom, top)
	c.XTicks, c.YTicks = x.ticks(func(v float64) string { return fmt.Sprintf("%.3g", v) }), y.ticks(func(v float64) string { return fmt.Sprintf("%.3g G", v/1e9) })
	c.Marks = append(c.Marks, mark{x.at(max(x.from, peak/fastest)), y.at(peak), width - right, y.at(peak), r.PeakName(), width - right - 4, y.at(peak) - 6})
	for _, b := range r.Bandwidth {
		from := max(x.from, y.from/b.BytesPerS)
		to := peak / b.BytesPerS
		if from >= to || from > x.to {
			continue
		}
		end := min(to, x.to)
		c.Marks = append(c.Marks, mark{x.at(from), y.at(from * b.BytesPerS), x.at(end), y.at(end * b.BytesPerS), "", 0, 0})
		label := mark{LabelX: x.at(from) + 6, LabelY: y.at(from*b.BytesPerS) - 8, Label: b.Level}
		label.X1, label.Y1, label.X2, label.Y2 = x.at(from), y.at(from*b.BytesPerS), x.at(from), y.at(from*b.BytesPerS)
		c.Marks = append(c.Marks, label)
	}
	for i, k := range r.Kernels {
		if !(k.Intensity() > 0) || !(k.OperationsPerS() > 0) {
			continue
		}
		text := fmt.Sprintf("%s: %.3g operations a byte, %.3g billion a second, %.0f%% of the roof", k.Name(), k.Intensity(), k.OperationsPerS()/1e9, 100*r.Share(&k))
		c.Series = append(c.Series, series{Name: k.Name(), Style: i % styles, Points: []point{{x.at(k.Intensity()), y.at(k.OperationsPerS()), text, false}}})
		c.Text += text + ". "
	}
	return c
}

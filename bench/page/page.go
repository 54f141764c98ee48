// Package page makes one HTML file of results of benchmark suites: tables, curves and what has to be known of the machine. The
// file holds its own style, script and drawings, and asks for nothing over a network; it can be read without the script. All
// text of a result is a stranger's: it goes through html/template, and the page's own policy lets no other script run.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the template, its style and its script
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/compare"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/roofline"
)

//go:embed page.tmpl
var pageText string

//go:embed page.css
var style string

//go:embed page.js
var script string

// Input is what the page is made of: at least one result, the first of which the others are compared with.
type Input struct {
	Results []Named
	// Rooflines are those of hosts, if they were measured.
	Rooflines []*roofline.Report
}

// Named is a result and what it is called.
type Named struct {
	Name   string // of the file
	Result *report.Result
}

// Write writes the page.
func Write(w io.Writer, in Input) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	p := page{
		Style: template.CSS(style), Script: template.JS(script),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", digest(style), digest(script)),
	}
	for i := range in.Results {
		p.Results = append(p.Results, newSection(i, &in.Results[i]))
	}
	for _, n := range in.Results[1:] {
		p.Comparisons = append(p.Comparisons, newComparison(&in.Results[0], &n))
	}
	for i, r := range in.Rooflines {
		p.Rooflines = append(p.Rooflines, newRoofline(i, r))
	}
	p.Title = "Picket bench: " + in.Results[0].Result.Suite.Name
	var out bytes.Buffer
	if err := t.Execute(&out, &p); err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	if _, err := out.WriteTo(w); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// digest is how a policy names what may run.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

type page struct {
	Title       string
	Policy      string
	Style       template.CSS
	Script      template.JS
	Results     []*section
	Comparisons []comparison
	Rooflines   []rooflinePart
}

// section is one result.
type section struct {
	ID    string
	Name  string
	Suite string
	When  string
	Took  string
	Tool  string
	// Warnings say why the figures are to be taken with care.
	Warnings []string
	Facts    []fact
	Models   []modelPart
	Targets  []report.TargetInfo
	LeftOut  []report.LeftOut
}

type fact struct{ Name, Value string }

// modelPart is what was measured with one model.
type modelPart struct {
	ID     string
	Info   report.ModelInfo
	Groups []group
	Rates  []*chart
	Phases []phaseRow
	Names  []legend // of the phases
}

// group is the runs of one scenario that differ in the target alone.
type group struct {
	ID       string
	Scenario string
	Text     string // of the parameters
	Metric   string
	Rows     []row
	Curve    *chart
	Peers    bool // some are others' work
}

// row is one run in a table.
type row struct {
	Target, Variant string
	Ours            bool
	Metric          cellValue
	Bar             float64 // of the best, from 0 to 100
	Times           string  // in words, beside the best of ours
	Cells           []string
	Wrong           int64
	Checked         int64
	Why             string // it is not to be used
}

type cellValue struct{ Value, Interval string }

func newSection(i int, n *Named) *section {
	r := n.Result
	s := &section{
		ID: fmt.Sprintf("r%d", i), Name: n.Name, Suite: r.Suite.Name,
		When: r.Began.UTC().Format("2 January 2006, 15:04 UTC"), Took: r.Ended.Sub(r.Began).Round(time.Second).String(),
		Tool: r.Tool.Version, Facts: facts(r), Targets: r.Targets, LeftOut: r.LeftOut,
	}
	if r.Suite.Quick {
		s.Warnings = append(s.Warnings, "This is a shortened run, which shows that everything works and is no measurement.")
	}
	if !r.Noise.Quiet {
		s.Warnings = append(s.Warnings, "The machine was not quiet: "+strings.Join(r.Noise.Why, "; ")+".")
	}
	s.Warnings = append(s.Warnings, r.Marks...)
	for _, d := range r.Environment.Differences {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%s: the suite's host has %s, this one %s.", d.What, d.Expected, d.Found))
	}
	for m, info := range r.ModelsMeasured() {
		part := modelPart{ID: fmt.Sprintf("%s-m%d", s.ID, m), Info: info}
		for g, runs := range r.Groups(info.Name) {
			part.Groups = append(part.Groups, newGroup(fmt.Sprintf("%s-g%d", part.ID, g), r, runs))
		}
		part.Rates = rateCharts(part.ID, r, info.Name)
		part.Phases, part.Names = phases(r, info.Name)
		s.Models = append(s.Models, part)
	}
	return s
}

func newGroup(id string, r *report.Result, runs []*report.Run) group {
	first := runs[0]
	m := first.Summary.Metric
	g := group{ID: id, Scenario: first.Scenario, Text: first.Parameters.String(), Metric: m.Name}
	best, own := 0.0, map[report.Kind]float64{} // the best of ours, in process and behind a server
	for _, run := range runs {
		v := run.Summary.Metric.Value.Value
		if !run.Verdict.Valid || r.Target(run.Target).Kind == report.KindEmpty || !(v > 0) {
			continue
		}
		if best == 0 || better(v, best, m.Higher) {
			best = v
		}
		if kind := r.Target(run.Target).Kind; r.Target(run.Target).Ours && (own[kind] == 0 || better(v, own[kind], m.Higher)) {
			own[kind] = v
		}
	}
	for _, run := range runs {
		s := &run.Summary
		v := s.Metric.Value
		line := row{
			Target: run.Target, Variant: run.Variant, Ours: r.Target(run.Target).Ours,
			Metric: cellValue{report.Quantity(v.Value, s.Metric.Unit), fmt.Sprintf("%s to %s", report.Quantity(v.Low, s.Metric.Unit), report.Quantity(v.High, s.Metric.Unit))},
		}
		if v.Value > 0 && best > 0 {
			line.Bar = min(100, 100*best/v.Value)
			if m.Higher {
				line.Bar = min(100, 100*v.Value/best)
			}
		}
		if like := own[r.Target(run.Target).Kind]; !line.Ours && r.Target(run.Target).Kind != report.KindEmpty && like > 0 && v.Value > 0 {
			times := v.Value / like
			if m.Higher {
				times = like / v.Value
			}
			line.Times = timesText(times)
			g.Peers = true
		}
		for _, e := range []report.Estimate{s.P50, s.P90, s.P99, s.P999, s.Max} {
			line.Cells = append(line.Cells, report.Quantity(e.Value, "ns"))
		}
		line.Cells = append(line.Cells, report.Quantity(s.Requests.Value, "requests/s"), report.Quantity(s.Rows.Value, "rows/s"))
		for i := range run.Repetitions {
			line.Wrong += run.Repetitions[i].Counts.Wrong
			line.Checked += run.Repetitions[i].Counts.Checked
		}
		if !run.Verdict.Valid {
			line.Why = strings.Join(run.Verdict.Why, "; ")
			if line.Why == "" {
				line.Why = "the result says that it is not valid"
			}
		}
		g.Rows = append(g.Rows, line)
	}
	g.Curve = latencyChart(id, runs)
	return g
}

func better(a, b float64, higher bool) bool { return a > b == higher && a != b }

// timesText says how many times better than another the best of ours of the same kind is.
func timesText(times float64) string {
	if times > 0.95 && times < 1.05 {
		return "like Picket"
	}
	if times >= 1 {
		return fmt.Sprintf("Picket %s times better", number(times))
	}
	return fmt.Sprintf("Picket %s times worse", number(1/times))
}

func number(v float64) string {
	if v >= 9.95 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// facts are what is to be known of the machine.
func facts(r *report.Result) []fact {
	e, c := &r.Environment, &r.Environment.CPU
	var list []fact
	add := func(name, format string, values ...any) {
		if value := strings.TrimSpace(fmt.Sprintf(format, values...)); value != "" {
			list = append(list, fact{name, value})
		}
	}
	add("Processor", "%s", c.Model)
	add("Level", "%s, family %d, model %d, stepping %d, microcode %s", c.Level, c.Family, c.ModelNumber, c.Stepping, orUnknown(c.Microcode))
	add("Cores", "%d cores, %d threads, %d sockets; %g usable", c.Cores, c.Threads, c.Sockets, c.Allowed)
	var caches []string
	for _, cache := range c.Caches {
		caches = append(caches, fmt.Sprintf("L%d %s %s", cache.Level, cache.Type, bytesText(uint64(max(0, cache.Bytes)))))
	}
	add("Caches", "%s", strings.Join(caches, ", "))
	add("SMT, governor, boost", "%s, %s, %s", orUnknown(c.SMT), orUnknown(c.Governor), orUnknown(c.Boost))
	add("Memory", "%s, %s available, %d NUMA nodes, transparent huge pages: %s", bytesText(e.Memory.TotalBytes), bytesText(e.Memory.AvailableBytes), e.Memory.NUMANodes, orUnknown(e.Memory.TransparentHugePages))
	for _, g := range e.GPUs {
		add("GPU", "%s, %s, driver %s", g.Name, bytesText(g.MemoryBytes), g.Driver)
	}
	add("System", "Linux %s, glibc %s, %s", e.Kernel, orUnknown(e.Glibc), orUnknown(r.Tool.Go))
	if e.Virtual != "" {
		add("Virtual machine", "%s", e.Virtual)
	}
	if e.Instance.Type != "" {
		add("Instance", "%s, as %s says", e.Instance.Type, orUnknown(e.Instance.Source))
	}
	if r.Suite.Mask != "" {
		add("Masked features", "%s", r.Suite.Mask)
	}
	quiet := "quiet"
	if !r.Noise.Quiet {
		quiet = "not quiet"
	}
	add("The machine was", "%s: %.1f%% of its time went to other guests and %.1f%% to other processes; load before: %.2f; a loop of fixed work differed by %.1f%%",
		quiet, 100*r.Noise.Steal, 100*r.Noise.Others, r.Noise.LoadBefore, 100*r.Noise.LoopSpread)
	if disturbed, leftOut, of := r.Disturbed(); disturbed > 0 {
		add("Disturbed by others", "%d of %d repetitions; the figures go without %d of them", disturbed, of, leftOut)
	}
	known, of := r.Known(report.Well)
	add("Known well", "%d of %d figures, to within %.0f%% of themselves", known, of, 100*report.Well)
	add("Measuring costs", "%s", r.Overhead.Say())
	add("Suite", "%s, digest %.16s, seed %d", r.Suite.Name, r.Suite.Digest, r.Suite.Seed)
	add("Picket", "%s %s", r.Tool.Version, r.Tool.Commit)
	return list
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

func bytesText(n uint64) string {
	for _, unit := range []struct {
		name string
		size uint64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.size {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// comparison is one result beside the first.
type comparison struct {
	First, Second string
	Warnings      []string
	Changes       []changeRow
	Only          []string
}

type changeRow struct {
	Key, Metric, First, Second, Change, Interval, P, Verdict, Why string
	Class                                                         string
}

func newComparison(a, b *Named) comparison {
	found := compare.Of(a.Result, b.Result, compare.Options{Threshold: 0.03, Alpha: 0.05})
	c := comparison{First: a.Name, Second: b.Name, Warnings: found.Warnings, Only: slices.Concat(found.OnlyA, found.OnlyB)}
	for i := range found.Changes {
		ch := &found.Changes[i]
		line := changeRow{
			Key: ch.Key, Metric: ch.Metric, First: report.Quantity(ch.A.Median, ch.Unit), Second: report.Quantity(ch.B.Median, ch.Unit),
			Change: fmt.Sprintf("%+.1f%%", 100*ch.Change), Interval: fmt.Sprintf("%+.1f to %+.1f%%", 100*ch.Low, 100*ch.High),
			P: fmt.Sprintf("%.3f", ch.P), Verdict: string(ch.Verdict), Why: ch.Why, Class: "same",
		}
		switch ch.Verdict {
		case compare.Better:
			line.Class = "better"
		case compare.Worse:
			line.Class = "worse"
		}
		c.Changes = append(c.Changes, line)
	}
	return c
}

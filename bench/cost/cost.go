// Package cost says what predictions cost on a host, and how many hosts a load needs, from a result of a suite and a file of
// prices. It knows no prices of its own.
package cost

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/picket-ml/picket/bench/report"
)

// maxPrices bounds the file of prices.
const maxPrices = 1 << 20

// Prices is what hosts cost, as somebody has written it down.
type Prices struct {
	Currency string `yaml:"currency" json:"currency"`
	AsOf     string `yaml:"as_of" json:"as_of"` // a date
	Source   string `yaml:"source" json:"source"`
	// Example says that the numbers are there to show the form, and are no prices.
	Example bool   `yaml:"example" json:"example"`
	Hosts   []Host `yaml:"hosts" json:"hosts"`
}

// Host is one kind of host.
type Host struct {
	Family  string  `yaml:"family" json:"family"`     // "m5"
	Type    string  `yaml:"type" json:"type"`         // "m5.4xlarge"
	CPUs    float64 `yaml:"cpus" json:"cpus"`         // logical
	PerHour float64 `yaml:"per_hour" json:"per_hour"` // of the whole host
}

// ReadPrices reads a file of prices.
func ReadPrices(path string) (*Prices, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading prices: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPrices+1))
	if err != nil {
		return nil, fmt.Errorf("reading prices: %w", err)
	}
	p, err := ParsePrices(data)
	if err != nil {
		return nil, fmt.Errorf("reading prices from %s: %w", path, err)
	}
	return p, nil
}

// ParsePrices reads the bytes of such a file.
func ParsePrices(data []byte) (*Prices, error) {
	if len(data) > maxPrices {
		return nil, fmt.Errorf("it has more than %d bytes", maxPrices)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("it is empty")
	}
	p := new(Prices)
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(p); err != nil {
		return nil, err
	}
	if p.Currency == "" || p.Source == "" {
		return nil, errors.New("it does not say in which currency the prices are, or where they come from: currency and source are needed")
	}
	if _, err := time.Parse(time.DateOnly, p.AsOf); err != nil {
		return nil, fmt.Errorf("as_of is %q, and no date such as 2026-01-31: prices without a date are worth nothing", p.AsOf)
	}
	if len(p.Hosts) == 0 {
		return nil, errors.New("it lists no hosts")
	}
	for i, h := range p.Hosts {
		switch {
		case h.Family == "" || h.Type == "":
			return nil, fmt.Errorf("host %d has no family or no type", i+1)
		case !(h.CPUs > 0) || math.IsInf(h.CPUs, 0):
			return nil, fmt.Errorf("host %s has %v cpus", h.Type, h.CPUs)
		case !(h.PerHour > 0) || math.IsInf(h.PerHour, 0):
			return nil, fmt.Errorf("host %s costs %v an hour", h.Type, h.PerHour)
		}
	}
	return p, nil
}

// find is the host that a result is of: by its type, or by its family.
func (p *Prices) find(kind, family string) *Host {
	for i := range p.Hosts {
		if kind != "" && p.Hosts[i].Type == kind {
			return &p.Hosts[i]
		}
	}
	for i := range p.Hosts {
		if family != "" && p.Hosts[i].Family == family {
			return &p.Hosts[i]
		}
	}
	return nil
}

// Demand is a load and what it asks for.
type Demand struct {
	PerS     float64 // requests a second; 0 for none
	BoundNS  float64 // that Quantile of them are answered within
	Quantile float64 // 0.5, 0.9, 0.99 or 0.999
	// Headroom is the share of a host's capacity that is kept free, and Spare how many hosts may fail.
	Headroom float64
	Spare    int
}

// Options is what to reckon with.
type Options struct {
	// Type takes the price of this type of host, whatever the result says of its own.
	Type string
	// Use is the share of the time that a host has work; 1 prices a host that never waits.
	Use    float64
	Demand Demand
}

// Line is what one target with one model comes to on the host of one result.
type Line struct {
	Result string `json:"result"`
	Host   Host   `json:"host"`
	Model  string `json:"model"`
	Target string `json:"target"`
	// RowsPerS is the most that was measured, in Scenario, on CPUs of the host's.
	RowsPerS float64 `json:"rows_per_s"`
	Scenario string  `json:"scenario"`
	CPUs     float64 `json:"cpus"`
	// PerMillion is what a million predictions cost.
	PerMillion float64 `json:"per_million"`
	// CapacityPerS is the highest rate of requests that met the bound, of the whole host; Hosts how many hosts the demand needs
	// and HostsPerHour what they cost. WhyNot says why that is not known.
	CapacityPerS float64 `json:"capacity_per_s,omitempty"`
	Hosts        int     `json:"hosts,omitempty"`
	HostsPerHour float64 `json:"hosts_per_hour,omitempty"`
	WhyNot       string  `json:"why_not,omitempty"`
	// Remarks is what has to be known beside it.
	Remarks []string `json:"remarks,omitempty"`
}

// Of reckons for every model and target of ours in a result, the cheapest first.
func Of(name string, r *report.Result, p *Prices, o Options) ([]Line, error) {
	kind, family := r.Environment.Instance.Type, cmp.Or(r.Environment.Instance.Family, r.Suite.Family)
	if o.Type != "" {
		kind, family = o.Type, ""
	}
	host := p.find(kind, family)
	if host == nil && o.Type != "" {
		return nil, fmt.Errorf("the prices have no host of type %s", o.Type)
	}
	if host == nil {
		return nil, fmt.Errorf("the prices have no host for %s, which is of type %q and family %q: name one of theirs with --type", name, kind, family)
	}
	cpus := r.Environment.CPU.Allowed
	if !(cpus > 0) || math.IsInf(cpus, 0) {
		return nil, fmt.Errorf("%s does not say how many CPUs were used", name)
	}
	var remarks []string
	if cpus != host.CPUs {
		remarks = append(remarks, fmt.Sprintf("measured on %g CPUs and reckoned for %g as if rates grew with them", cpus, host.CPUs))
	}
	if kind != r.Environment.Instance.Type {
		remarks = append(remarks, "measured on another host than the one that is priced")
	}
	if !r.Noise.Quiet || r.Suite.Quick || len(r.Marks) > 0 {
		remarks = append(remarks, "the result is marked; picket bench report shows why")
	}
	scale := host.CPUs / cpus
	var lines []Line
	for _, run := range best(r) {
		rows := run.Summary.Rows.Value * scale
		line := Line{
			Result: name, Host: *host, Model: run.Model, Target: run.Target, RowsPerS: rows, Scenario: run.Scenario, CPUs: cpus,
			PerMillion: host.PerHour / (rows * o.Use * 3600) * 1e6, Remarks: remarks,
		}
		if o.Demand.PerS > 0 {
			line.demand(r, scale, &o.Demand)
		}
		lines = append(lines, line)
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return cmp.Compare(a.PerMillion, b.PerMillion) })
	return lines, nil
}

// best are the runs, valid and of ours, with the most rows a second for each model and target.
func best(r *report.Result) []*report.Run {
	var list []*report.Run
	for i := range r.Runs {
		run := &r.Runs[i]
		v := run.Summary.Rows.Value
		if !run.Verdict.Valid || !r.Target(run.Target).Ours || !(v > 0) || math.IsInf(v, 0) {
			continue
		}
		at := slices.IndexFunc(list, func(other *report.Run) bool { return other.Model == run.Model && other.Target == run.Target })
		switch {
		case at < 0:
			list = append(list, run)
		case list[at].Summary.Rows.Value < v:
			list[at] = run
		}
	}
	return list
}

// demand says how many hosts are needed.
func (l *Line) demand(r *report.Result, scale float64, d *Demand) {
	l.WhyNot = "the result has no rates tried with this model and target: run a suite with scenario Server"
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Model != l.Model || run.Target != l.Target || len(run.Curve) == 0 || !run.Verdict.Valid {
			continue
		}
		if c := capacity(run.Curve, d); c*scale > l.CapacityPerS {
			l.CapacityPerS = c * scale
		} else if l.CapacityPerS == 0 {
			l.WhyNot = "no rate that was tried meets the bound"
		}
	}
	if l.CapacityPerS == 0 {
		return
	}
	l.WhyNot = ""
	need := math.Ceil(d.PerS / (l.CapacityPerS * (1 - d.Headroom)))
	const most = 1_000_000
	if need > most {
		l.WhyNot = fmt.Sprintf("it would take more than %d hosts", most)
		return
	}
	l.Hosts = int(need) + d.Spare
	l.HostsPerHour = float64(l.Hosts) * l.Host.PerHour
}

// capacity is the highest rate that was answered, within the bound, below the rate that parts the tries that met it from those that
// did not: the one with the fewest on the wrong side, of equals the lowest. What disturbs a machine for a moment fails a low rate now
// and then, and is not to say that nothing is possible. Rates between those that were tried are not guessed at.
func capacity(curve []report.Point, d *Demand) float64 {
	met := func(p *report.Point) bool {
		at := map[float64]int64{0.5: p.P50NS, 0.9: p.P90NS, 0.99: p.P99NS, 0.999: p.P999NS}[d.Quantile]
		// Random arrivals are not exactly as many as asked for.
		return p.AchievedPerS >= 0.95*p.RatePerS && at > 0 && float64(at) <= d.BoundNS
	}
	above := 0 // tries that met the bound, not counted below yet
	for i := range curve {
		if met(&curve[i]) {
			above++
		}
	}
	fewest, failed, highest, found := above, 0, 0.0, 0.0
	for i := range curve {
		if p := &curve[i]; met(p) {
			above--
			highest = max(highest, p.AchievedPerS)
		} else {
			failed++
		}
		if failed+above < fewest {
			fewest, found = failed+above, highest
		}
	}
	if math.IsInf(found, 0) {
		return 0
	}
	return found
}

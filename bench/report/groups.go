package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ModelsMeasured are the models that have runs, in the order of the file; one that the result does not describe has its name alone.
func (r *Result) ModelsMeasured() []ModelInfo {
	var list []ModelInfo
	for i := range r.Runs {
		name := r.Runs[i].Model
		if slices.ContainsFunc(list, func(m ModelInfo) bool { return m.Name == name }) {
			continue
		}
		info := ModelInfo{Name: name}
		if at := slices.IndexFunc(r.Models, func(m ModelInfo) bool { return m.Name == name }); at >= 0 {
			info = r.Models[at]
		}
		list = append(list, info)
	}
	return list
}

// Groups are the runs with a model that differ in the target alone, in the order of the file.
func (r *Result) Groups(model string) [][]*Run {
	var order []string
	groups := map[string][]*Run{}
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Model != model {
			continue
		}
		same := *run
		same.Target = ""
		key := same.Key()
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], run)
	}
	list := make([][]*Run, len(order))
	for i, key := range order {
		list[i] = groups[key]
	}
	return list
}

// Target is what the result says of a target; zero where it says nothing.
func (r *Result) Target(name string) TargetInfo {
	if at := slices.IndexFunc(r.Targets, func(t TargetInfo) bool { return t.Name == name }); at >= 0 {
		return r.Targets[at]
	}
	return TargetInfo{}
}

// Known is how many of the scenarios' numbers, of runs that are valid, are known to within such a part of themselves: half of the
// interval is no longer than that. of is how many there are.
func (r *Result) Known(within float64) (known, of int) {
	for i := range r.Runs {
		run := &r.Runs[i]
		if !run.Verdict.Valid || r.Target(run.Target).Kind == KindEmpty {
			continue
		}
		of++
		if v := &run.Summary.Metric.Value; v.Confidence >= leastConfidence && v.High-v.Low <= 2*within*v.Value {
			known++
		}
	}
	return known, of
}

// Disturbed is how many repetitions others disturbed, and how many of them the figures go without. of is how many there are.
func (r *Result) Disturbed() (disturbed, leftOut, of int) {
	for i := range r.Runs {
		for n := range r.Runs[i].Repetitions {
			rep := &r.Runs[i].Repetitions[n]
			of++
			if rep.Disturbed {
				disturbed++
			}
			if rep.LeftOut {
				leftOut++
			}
		}
	}
	return disturbed, leftOut, of
}

// Well is to within what part of itself a number is to be known for two runs to agree about it.
const Well = 0.03

// leastConfidence is that of an interval that is worth its name.
const leastConfidence = 0.95

// Slim is a copy without the histograms, which are nearly all of a file's size: for tables of medians.
func (r *Result) Slim() *Result {
	slim := *r
	slim.Runs = slices.Clone(r.Runs)
	for i := range slim.Runs {
		slim.Runs[i].Repetitions = slices.Clone(slim.Runs[i].Repetitions)
		for n := range slim.Runs[i].Repetitions {
			slim.Runs[i].Repetitions[n].Latency, slim.Runs[i].Repetitions[n].Service = nil, nil
		}
	}
	return &slim
}

// String says what a run did, for people.
func (p *Parameters) String() string {
	parts := []string{plural(p.Rows, "row a request", "rows a request")}
	if p.Outstanding > 0 {
		parts = append(parts, fmt.Sprintf("%d at a time", p.Outstanding))
	}
	switch p.Arrivals {
	case "closed":
		parts = append(parts, "the next when the last is answered")
	case "poisson":
		parts = append(parts, "random arrivals")
	case "":
	default:
		parts = append(parts, "arrivals: "+p.Arrivals)
	}
	if p.LatencyBoundNS > 0 {
		parts = append(parts, fmt.Sprintf("%g%% within %v", 100*p.Quantile, time.Duration(p.LatencyBoundNS)))
	}
	if p.Threads > 0 {
		parts = append(parts, plural(p.Threads, "thread", "threads"))
	}
	if p.Case != "" {
		parts = append(parts, p.Case)
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Quantity formats a value with its unit: "14.2 µs", "1.31 million/s".
func Quantity(v float64, unit string) string {
	switch {
	case unit == "ns" && v >= 1e9:
		return digits3(v/1e9) + " s"
	case unit == "ns" && v >= 1e6:
		return digits3(v/1e6) + " ms"
	case unit == "ns" && v >= 1e3:
		return digits3(v/1e3) + " µs"
	case unit == "ns":
		return digits3(v) + " ns"
	case v >= 1e6:
		return digits3(v/1e6) + " million/s"
	case v >= 1e4:
		return digits3(v/1e3) + " thousand/s"
	}
	return digits3(v) + "/s"
}

// digits3 is v with three digits.
func digits3(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

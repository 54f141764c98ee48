package report

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// WriteText writes the result for people: a table, and what is to be known of it.
func (r *Result) WriteText(w io.Writer) error {
	e := &r.Environment
	fmt.Fprintf(w, "suite %s on %s, %d logical processors (%s)\n", r.Suite.Name, e.CPU.Model, e.CPU.Threads, e.CPU.Level)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	scenario := ""
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Scenario != scenario {
			scenario = run.Scenario
			fmt.Fprintf(t, "\n%s: %s\nmodel\ttarget\trows\tcallers\tcase\t%s\tinterval\tp50\tp99\tp99.9\trows/s\t\n", scenario, run.Summary.Metric.Name, run.Summary.Metric.Unit)
		}
		s, p := &run.Summary, &run.Parameters
		valid := ""
		if !run.Verdict.Valid {
			valid = "not valid"
		}
		m := &s.Metric
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s to %s\t%s\t%s\t%s\t%.4g\t%s\n", run.Model, run.Target, p.Rows, p.Outstanding, p.Case, m.format(m.Value.Value), m.format(m.Value.Low), m.format(m.Value.High),
			nanoseconds(s.P50.Value), nanoseconds(s.P99.Value), nanoseconds(s.P999.Value), s.Rows.Value, valid)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	fmt.Fprintln(w)
	for i := range r.Runs {
		for _, why := range r.Runs[i].Verdict.Why {
			fmt.Fprintf(w, "not valid: %s: %s\n", r.Runs[i].Key(), why)
		}
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(w, "left out: %s, %s: %s\n", l.Engine, l.Model, l.Why)
	}
	for _, why := range r.Noise.Why {
		fmt.Fprintf(w, "noisy: %s\n", why)
	}
	for _, mark := range r.Marks {
		fmt.Fprintf(w, "mark: %s\n", mark)
	}
	if disturbed, leftOut, of := r.Disturbed(); disturbed > 0 {
		fmt.Fprintf(w, "disturbed by others: %d of %d repetitions, of which the figures go without %d\n", disturbed, of, leftOut)
	}
	known, of := r.Known(Well)
	fmt.Fprintf(w, "known to within %.0f%%: %d of %d figures\n", 100*Well, known, of)
	if _, err := fmt.Fprintf(w, "measuring: %s\n", r.Overhead.Say()); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// format is a value of the metric for people.
func (m *Metric) format(v float64) string {
	if m.Unit == "ns" {
		return nanoseconds(v)
	}
	return fmt.Sprintf("%.4g", v)
}

// nanoseconds is a time with three digits.
func nanoseconds(ns float64) string {
	d := time.Duration(ns)
	for _, unit := range []time.Duration{time.Nanosecond, 10 * time.Nanosecond, 100 * time.Nanosecond, time.Microsecond, 10 * time.Microsecond, 100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond} {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
	return d.Round(100 * time.Millisecond).String()
}

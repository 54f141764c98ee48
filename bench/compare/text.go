package compare

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/picket-ml/picket/bench/report"
)

// Write prints the comparison for people.
func (c *Comparison) Write(w io.Writer) error {
	for _, warning := range c.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	if len(c.Warnings) > 0 {
		fmt.Fprintln(w)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "measurement\tmetric\tfirst\tsecond\tchange\tinterval\tp\t")
	counts := map[Verdict]int{}
	for i := range c.Changes {
		ch := &c.Changes[i]
		counts[ch.Verdict]++
		said := string(ch.Verdict)
		if ch.Why != "" {
			said += ": " + ch.Why
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%+.1f%%\t%+.1f to %+.1f%%\tp=%.3f n=%d+%d\t%s\n", ch.Key, ch.Metric,
			report.Quantity(ch.A.Median, ch.Unit), report.Quantity(ch.B.Median, ch.Unit), 100*ch.Change, 100*ch.Low, 100*ch.High, ch.P, len(ch.A.Values), len(ch.B.Values), said)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	for _, only := range []struct {
		which string
		keys  []string
	}{{"first", c.OnlyA}, {"second", c.OnlyB}} {
		if len(only.keys) > 0 {
			fmt.Fprintf(w, "only in the %s: %s\n", only.which, strings.Join(only.keys, ", "))
		}
	}
	if err := c.writeQuietest(w); err != nil {
		return err
	}
	near, of := c.near()
	_, err := fmt.Fprintf(w, "%d compared: %d agree within %g%%, %d better, %d worse, %d that cannot be told; as they stand, %d of %d that may be used are within %g%% of each other\n",
		len(c.Changes), counts[Agree], 100*c.threshold, counts[Better], counts[Worse], counts[Unknown], near, of, 100*c.threshold)
	if err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	return nil
}

func (c *Comparison) writeQuietest(w io.Writer) error {
	if len(c.Quietest) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nin the quietest repetition of each, which decides nothing, calls in the process that measures:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	near := 0
	for _, q := range c.Quietest {
		if math.Abs(q.Change) <= c.threshold {
			near++
		}
		fmt.Fprintf(table, "%s\tmedian\t%s\t%s\t%+.1f%%\n", q.Key, report.Quantity(q.A, "ns"), report.Quantity(q.B, "ns"), 100*q.Change)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%d of %d are within %g%% of each other\n\n", near, len(c.Quietest), 100*c.threshold); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	return nil
}

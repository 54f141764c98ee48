package compare

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
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
		if ch.Verdict == Same {
			said = ""
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%+.1f%%\t%+.1f to %+.1f%%\tp=%.3f n=%d+%d\t%s\n", ch.Key, ch.Metric,
			Quantity(ch.A.Median, ch.Unit), Quantity(ch.B.Median, ch.Unit), 100*ch.Change, 100*ch.Low, 100*ch.High, ch.P, len(ch.A.Values), len(ch.B.Values), said)
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
	_, err := fmt.Fprintf(w, "%d compared: %d better, %d worse, %d without a difference that shows, %d that cannot be told\n",
		len(c.Changes), counts[Better], counts[Worse], counts[Same], counts[Unknown])
	if err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	return nil
}

// Quantity formats a value of a unit of the result's: "14.2 µs", "1.31 million/s".
func Quantity(v float64, unit string) string {
	switch {
	case unit == "ns" && v >= 1e9:
		return digits(v/1e9) + " s"
	case unit == "ns" && v >= 1e6:
		return digits(v/1e6) + " ms"
	case unit == "ns" && v >= 1e3:
		return digits(v/1e3) + " µs"
	case unit == "ns":
		return digits(v) + " ns"
	case v >= 1e6:
		return digits(v/1e6) + " million/s"
	case v >= 1e4:
		return digits(v/1e3) + " thousand/s"
	}
	return digits(v) + "/s"
}

// digits is v with three of them.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/bench/roofline"
)

func newBenchRoofline() *cobra.Command {
	c := &cobra.Command{
		Use:   "roofline [-o FILE]",
		Short: "Say how near the kernels come to what one core can do",
		Long: `Measure how fast one core reads from each cache and from memory, and how many
vector comparisons it does; time the forest's kernels on it; and set beside that
how many bytes and operations they need for a row. The first are measured, the
last is counted from the layout of the model's tables, which the output says.
With --output the result is written for picket bench report --roofline. It takes
some ten seconds and means nothing on a machine that is busy.`,
		Example: `  picket bench roofline -o roofline.json`,
		Args:    cobra.NoArgs,
	}
	out := c.Flags().StringP("output", "o", "", "the `FILE` to write as JSON")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, _ []string) error {
		r, err := roofline.Measure(c.Context())
		if err != nil {
			return err
		}
		if *out != "" {
			if err := writeWhole(*out, r.Write); err != nil {
				return fmt.Errorf("writing the roofline: %w", err)
			}
		}
		if *asJSON {
			return r.Write(c.OutOrStdout())
		}
		return writeRoofline(c.OutOrStdout(), r)
	})
	return c
}

func writeRoofline(w io.Writer, r *roofline.Report) error {
	fmt.Fprintf(w, "%s (%s), one core\n\n", r.Processor, r.Level)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, b := range r.Bandwidth {
		fmt.Fprintf(table, "reads from %s\t%.1f GB/s\t\n", b.Level, b.BytesPerS/1e9)
	}
	for _, o := range r.Operations {
		fmt.Fprintf(table, "%s\t%.2f billion/s\t\n", o.Name, o.PerS/1e9)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the roofline: %w", err)
	}
	table = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nkernel\tns a row\tbytes a row\toperations a row\tGB/s\tbillion operations/s\tof the roof\tinstructions a row\t")
	for i := range r.Kernels {
		k := &r.Kernels[i]
		counted := "not counted"
		if k.InstructionsPerRow > 0 {
			counted = fmt.Sprintf("%.0f", k.InstructionsPerRow)
		}
		fmt.Fprintf(table, "%s\t%.1f\t%.0f\t%.0f\t%.1f\t%.2f\t%.0f%%\t%s\t\n", k.Name(), k.NSPerRow, k.BytesPerRow, k.OperationsPerRow, k.BytesPerRow/k.NSPerRow,
			k.OperationsPerS()/1e9, 100*r.Share(k), counted)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the roofline: %w", err)
	}
	for _, note := range r.Notes {
		for i, line := range wrap(note, 78) {
			start := "\n"
			if i > 0 {
				start = ""
			}
			if _, err := fmt.Fprintf(w, "%s%s\n", start, line); err != nil {
				return fmt.Errorf("writing the roofline: %w", err)
			}
		}
	}
	return nil
}

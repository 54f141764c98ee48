package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/bench/page"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/roofline"
)

func newBenchReport() *cobra.Command {
	c := &cobra.Command{
		Use:   "report RESULT... -o FILE",
		Short: "Make one HTML file of results",
		Long: `Make one HTML file of result files of picket bench run: what was measured on
which machine and how quiet that was, latency by percentile, throughput against
latency, where the time goes, and tables beside the peers. Results after the
first are compared with it. The file asks for nothing over a network.`,
		Example: `  picket bench report local.json -o report.html
  picket bench report before.json after.json --roofline roofline.json \
    -o report.html`,
		Args: cobra.MinimumNArgs(1),
	}
	out := c.Flags().StringP("output", "o", "", "the `FILE` to write")
	roofs := c.Flags().StringArray("roofline", nil, "a `FILE` of picket bench roofline to show too; may be repeated")
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if *out == "" {
			return usage("the report is not named: give it with -o FILE")
		}
		var in page.Input
		for _, path := range args {
			r, err := report.ReadResult(path)
			if err != nil {
				return err
			}
			in.Results = append(in.Results, page.Named{Name: filepath.Base(path), Result: r})
		}
		for _, path := range *roofs {
			r, err := roofline.Read(path)
			if err != nil {
				return err
			}
			in.Rooflines = append(in.Rooflines, r)
		}
		if err := writeWhole(*out, func(w io.Writer) error { return page.Write(w, in) }); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		fmt.Fprintf(c.OutOrStdout(), "wrote %s\n", *out)
		return nil
	})
	return c
}

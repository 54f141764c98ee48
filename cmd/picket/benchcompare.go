package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/bench/compare"
	"github.com/picket-ml/picket/bench/report"
)

func newBenchCompare() *cobra.Command {
	c := &cobra.Command{
		Use:   "compare FIRST SECOND",
		Short: "Say what has changed between two results by more than chance",
		Long: `Compare two result files of picket bench run: for each scenario, model, target
and set of parameters that both have, the medians of the repetitions, the change
with its 95% confidence interval, and the probability that chance alone makes
such a difference (Mann and Whitney's U test, as benchstat has it).

A change is a regression if it is for the worse, significant, and at least
--threshold. Then the exit code is 1. Two figures agree if the whole interval is
within --threshold; what neither agrees nor differs cannot be told. Measurements
that a result itself calls invalid are shown and not judged. Between different
hosts, or with a result of a noisy machine, the comparison is made and a warning
says so.`,
		Example: `  picket bench compare before.json after.json
  picket bench compare main.json branch.json --threshold 5% --json`,
		Args: cobra.ExactArgs(2),
	}
	threshold := percent(0.03)
	alpha := c.Flags().Float64("alpha", 0.05, "the probability of chance below which a change is significant")
	c.Flags().Var(&threshold, "threshold", "the least change that is a regression, such as 3%")
	all := c.Flags().Bool("all", false, "compare median and 99th percentile of latency and rows a second too, beside each scenario's own metric")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if *alpha <= 0 || *alpha >= 1 {
			return usage("--alpha %v is no probability", *alpha)
		}
		var results [2]*report.Result
		for i := range results {
			var err error
			if results[i], err = report.ReadResult(args[i]); err != nil {
				return err
			}
		}
		found := compare.Of(results[0], results[1], compare.Options{Threshold: float64(threshold), Alpha: *alpha, All: *all})
		var err error
		if *asJSON {
			err = writeJSON(c.OutOrStdout(), found)
		} else {
			err = found.Write(c.OutOrStdout())
		}
		switch {
		case err != nil:
			return err
		case len(found.Changes) == 0:
			return errors.New("comparing results: they have no measurement in common; run the same suite for both")
		case found.Regressed():
			return errors.New("comparing results: the second is worse than the first by more than chance")
		}
		return nil
	})
	return c
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/examples/fraud/generate"
)

func generateCommand() *cobra.Command {
	var (
		o        generate.Options
		n        int
		raw      bool
		out      string
		start    string
		daysLong int
	)
	c := &cobra.Command{
		Use: "generate -o FILE", Short: "simulate card transactions and write them with their profiles, as CSV or Parquet by the file's name", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) (err error) {
			if n < 1 || daysLong < 1 {
				return fmt.Errorf("generating: %d transactions in %d days cannot be; both must be above 0", n, daysLong)
			}
			if start != "" {
				if o.Start, err = time.Parse(time.DateOnly, start); err != nil {
					return fmt.Errorf("reading --start: %q is not a day like 2026-01-31", start)
				}
			}
			if o.Customers == 0 {
				o.Customers = max(10, n/(2*daysLong)) // each has about two a day
			}
			return writeFile(o, n, !raw, out)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "the file: NAME.csv or NAME.parquet")
	c.Flags().IntVarP(&n, "transactions", "n", 1_000_000, "how many transactions")
	c.Flags().IntVar(&daysLong, "days", 183, "over about how many days; with --customers it is what it comes to")
	c.Flags().IntVar(&o.Customers, "customers", 0, "how many customers; 0 for what fits the days")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "one seed gives one sequence of transactions")
	c.Flags().StringVar(&start, "start", "", "the first day; 2026-01-01 if empty")
	c.Flags().BoolVar(&raw, "raw", false, "transactions alone, without profiles")
	if err := c.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is a few lines above
	}
	return c
}

// writeFile writes into a file beside and renames it, so that a file that is there is whole.
func writeFile(o generate.Options, n int, withProfile bool, out string) (err error) {
	began := time.Now()
	temporary := out + ".tmp"
	file, err := os.Create(temporary)
	if err != nil {
		return fmt.Errorf("generating: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary) // of no use to anybody
		}
	}()
	defer file.Close()
	var to generate.Writer
	switch filepath.Ext(out) {
	case ".csv":
		to = generate.NewCSV(file, withProfile)
	case ".parquet":
		to = generate.NewParquet(file, withProfile)
	default:
		return fmt.Errorf("generating: %s must end in .csv or .parquet", out)
	}
	frauds, err := generate.Write(generate.New(o), to, n, withProfile)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("generating: %w", err)
	}
	if err := os.Rename(temporary, out); err != nil {
		return fmt.Errorf("generating: %w", err)
	}
	fmt.Printf("%s: %d transactions, %.2f%% of them fraud, in %.1f s\n", out, n, 100*float64(frauds)/float64(n), time.Since(began).Seconds())
	return nil
}

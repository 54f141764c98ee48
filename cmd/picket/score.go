package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/score"
	"github.com/picket-ml/picket/internal/store"
)

func newScore() *cobra.Command {
	c := &cobra.Command{
		Use:   "score MODEL INPUT -o OUTPUT (--key PEM | --root PEM --name NAME | --trust CONFIG | --unsigned)",
		Short: "Score a file of history with the package or the folder MODEL",
		Long: `Run the model in the package or the folder MODEL on every row of INPUT, and
write its answers to OUTPUT. No daemon is asked: it runs in this process, on all
cores or as many as --threads says.

INPUT is CSV or Parquet, which is seen from its first bytes. CSV has a line per
row; an empty field or nan is a missing value, and blank lines are skipped. Its
first line is a header if no field of it is a number or empty; --header yes and
--header no say so. In Parquet a null is a missing value. OUTPUT is Parquet if
its name ends in .parquet, and CSV if it ends in .csv, with a header if the
input has names.

The model takes the columns that --columns names, in that order, or all that
--id does not name. --id names columns that are written before the scores as
they are. Columns are named by their names or their numbers from 1: 3, 3-32.

Who may have signed MODEL is said as for package verify; --unsigned takes it
without that, and a folder that is no package needs it.

A run that was ended, in whatever way, goes on with the same command, from
OUTPUT.checkpoint and OUTPUT.partial, and the output is the same to the byte;
--restart begins anew. OUTPUT appears only when it is whole.`,
		Example: `  picket score fraud-3.tar.gz history.parquet -o scores.parquet --id event_id \
    --key public.pem
  picket score /models/fraud history.csv -o scores.csv --columns 2-31 --unsigned`,
		Args: cobra.ExactArgs(2),
	}
	var o score.Options
	var header string
	signers := addTrustFlags(c)
	unsigned := c.Flags().Bool("unsigned", false, "take the model without a signature")
	c.Flags().StringVarP(&o.Output, "output", "o", "", "the `FILE` to write, .csv or .parquet")
	c.Flags().StringSliceVar(&o.Columns, "columns", nil, "the `COLUMNS` that the model takes, in its order, separated by commas (default: all but those of --id)")
	c.Flags().StringSliceVar(&o.IDs, "id", nil, "`COLUMNS` to write before the scores, separated by commas")
	c.Flags().StringVar(&header, "header", string(score.HeaderAuto), "whether the first line of CSV names the columns: auto, yes or no")
	c.Flags().StringVar(&o.Backend, "backend", "", "the `BACKEND` that is to run the model (default: the fastest)")
	c.Flags().IntVar(&o.Threads, "threads", 0, "how many cores to use (default: all that the process may)")
	c.Flags().DurationVar(&o.Every, "checkpoint", 2*time.Second, "how often what was done is forced to disk; 0s after every chunk")
	c.Flags().BoolVar(&o.Restart, "restart", false, "begin anew, whatever another run has left")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		o.Model, o.Input = args[0], args[1]
		o.Header, o.Version, o.Backends = score.Header(header), version, backends.All(backends.Options{})
		ext := strings.ToLower(filepath.Ext(o.Output))
		switch {
		case o.Output == "":
			return usage("the output is not named: give it with -o FILE")
		case ext != ".csv" && ext != ".parquet":
			return usage("the name of the output, %s, says no format: it must end in .csv or .parquet", o.Output)
		case o.Header != score.HeaderAuto && o.Header != score.HeaderYes && o.Header != score.HeaderNo:
			return usage("--header %q is not known; it may be auto, yes or no", header)
		case o.Threads < 0:
			return usage("--threads %d is no number of cores", o.Threads)
		case o.Every < 0:
			return usage("--checkpoint %v is no time", o.Every)
		case *unsigned == signers.given():
			return usage("say who may have signed the model: give --key or --root, or --trust CONFIG, or --unsigned")
		}
		s, err := scoreFile(c, &o, signers, *unsigned)
		if err := errors.Join(err, backends.Close(o.Backends)); err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		fmt.Fprintf(c.OutOrStdout(), "scored %d rows into %s in %.2f s: %.0f rows a second by %s (%s)\n",
			s.Rows-s.Resumed, s.Output, s.Seconds, s.RowsPerS, s.Backend, s.Variant)
		if s.Resumed > 0 {
			fmt.Fprintf(c.OutOrStdout(), "  %d rows more were there from a run before\n", s.Resumed)
		}
		return nil
	})
	return c
}

// scoreFile unpacks a package into a folder of its own, which goes when all is done.
func scoreFile(c *cobra.Command, o *score.Options, signers *trustFlags, unsigned bool) (_ score.Summary, err error) {
	state, err := os.MkdirTemp("", "picket-score-*")
	if err != nil {
		return score.Summary{}, fmt.Errorf("making a folder for the package: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	ctx, stop := interruptible(c)
	defer stop()
	if o.Host, err = hostOf(ctx); err != nil {
		return score.Summary{}, err
	}
	so := store.Options{State: state, Host: o.Host, Unsigned: unsigned, Log: slog.New(slog.DiscardHandler)}
	if !unsigned {
		if so.Trust, err = signers.trust(); err != nil {
			return score.Summary{}, err
		}
	}
	s, err := store.New(so)
	if err != nil {
		return score.Summary{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	o.Source = s
	bar := newProgress(c.ErrOrStderr(), os.Getenv("TERM"))
	began := time.Now()
	o.Progress = func(done, total, rows int64) {
		const steps = 1000
		bar.step(int(done*steps/max(total, 1)), steps, fmt.Sprintf("%d rows, %.0f a second", rows, float64(rows)/time.Since(began).Seconds()))
	}
	summary, err := score.Run(ctx, *o)
	bar.end()
	switch {
	case err == nil:
		return summary, nil
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return summary, fmt.Errorf("scoring %s: interrupted; the same command goes on from here", o.Input)
	case errors.Is(err, engine.ErrTrust):
		return summary, &failure{exitPolicy, fmt.Errorf("scoring %s: %w", o.Input, err)}
	}
	return summary, fmt.Errorf("scoring %s: %w", o.Input, err)
}

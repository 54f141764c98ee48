package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/monitor"
	"github.com/picket-ml/picket/packaging"
)

func newMonitor() *cobra.Command {
	c := &cobra.Command{
		Use:   "monitor",
		Short: "Compare what a model is asked with what it was trained on",
		Long: `Compare what a model is asked with what it was trained on: baseline says what is
in a training set, compare says where captured data differ. The files are those
of SageMaker Model Monitor. No daemon is asked.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newMonitorBaseline(), newMonitorCompare())
	return c
}

func newMonitorBaseline() *cobra.Command {
	c := &cobra.Command{
		Use:   "baseline DATA -o DIR",
		Short: "Say what is in a training set",
		Long: `Read a training set, DATA, and write statistics.json and constraints.json into
the folder DIR. DATA is a file of CSV or Parquet, a folder of such files, or
s3:// and a bucket and a prefix. picket package build --baseline DIR puts them
into a package, and the daemon compares with them what the model is asked.

The columns are the model's inputs, in its order. --drop leaves out those that
are not, such as the label. --score names the one with the model's own answers:
then the scores are compared too.`,
		Example: `  picket monitor baseline train.csv --drop label --score prediction -o baseline`,
		Args:    cobra.ExactArgs(1),
	}
	var o monitor.BaselineOptions
	var t monitor.TableOptions
	var out string
	f := c.Flags()
	f.StringArrayVar(&o.Drop, "drop", nil, "a `COLUMN` to leave out; may be repeated")
	f.StringVar(&o.Score, "score", "", "the `COLUMN` with the model's answers")
	f.BoolVar(&t.NoHeader, "no-header", false, "the first line of CSV is data; columns are called _c0, _c1, ...")
	f.StringVarP(&out, "output", "o", "", "the folder to write to, `DIR`")
	open := dataFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if out == "" {
			return usage("the folder to write to is not named: give it with -o DIR")
		}
		files, err := open(c.Context(), args[0])
		if err != nil {
			return err
		}
		rows, err := monitor.OpenTable(c.Context(), files, t)
		if err != nil {
			return fmt.Errorf("reading the training set: %w", err)
		}
		defer rows.Close()
		s, k, err := monitor.Baseline(c.Context(), rows, o)
		if err != nil {
			return err
		}
		if err := writeBaseline(out, s, k); err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		w := c.OutOrStdout()
		fmt.Fprintf(w, "wrote %s and %s to %s: %.0f rows of %d features\n", monitor.StatisticsFile, monitor.ConstraintsFile, out, s.Dataset.ItemCount, len(s.Features))
		for i, feature := range s.Features {
			fmt.Fprintf(w, "  %-10s  %s, %.2f%% complete\n", feature.Type, feature.Name, 100*k.Features[i].Completeness)
		}
		return nil
	})
	return c
}

func writeBaseline(dir string, s *monitor.Statistics, k *monitor.Constraints) error {
	statistics, err := s.Encode()
	if err != nil {
		return err
	}
	constraints, err := k.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the baseline: %w", err)
	}
	for name, data := range map[string][]byte{monitor.StatisticsFile: statistics, monitor.ConstraintsFile: constraints} {
		if err := durable.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("writing the baseline: %w", err)
		}
	}
	return nil
}

// baseline is one that was read, and where from.
type baseline struct {
	statistics  *monitor.Statistics
	constraints *monitor.Constraints
	from        string
}

// readBaseline reads one from a package, or from a folder with the two files or of an
// unpacked package.
func readBaseline(c *cobra.Command, path string) (*baseline, error) {
	b := &baseline{from: path}
	var statistics, constraints []byte
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		if statistics, err = readEither(path, monitor.StatisticsFile, packaging.StatisticsName); err == nil {
			constraints, err = readEither(path, monitor.ConstraintsFile, packaging.ConstraintsName)
		}
	} else if err == nil {
		statistics, constraints, err = baselineOfPackage(c, path)
	}
	if err == nil {
		b.statistics, err = monitor.ParseStatistics(statistics)
	}
	if err == nil {
		b.constraints, err = monitor.ParseConstraints(constraints)
	}
	if err != nil {
		return nil, fmt.Errorf("the baseline %s: %w", path, fileError(err))
	}
	return b, nil
}

// readEither reads a file that has one of two names.
func readEither(dir, one, other string) ([]byte, error) {
	path := filepath.Join(dir, one)
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join(dir, other)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("it has no file %s: make it with picket monitor baseline", one)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, monitor.MaxFileBytes+1))
}

func baselineOfPackage(c *cobra.Command, path string) (statistics, constraints []byte, err error) {
	o, err := openPackage(c, path)
	if err != nil {
		return nil, nil, err
	}
	defer o.close()
	files, err := o.ReadFiles(c.Context(), monitor.MaxFileBytes, packaging.StatisticsName, packaging.ConstraintsName)
	if err != nil {
		return nil, nil, err
	}
	if statistics, constraints = files[packaging.StatisticsName], files[packaging.ConstraintsName]; statistics == nil || constraints == nil {
		return nil, nil, errors.New("the package has no baseline: build it with --baseline")
	}
	return statistics, constraints, nil
}

func newMonitorCompare() *cobra.Command {
	c := &cobra.Command{
		Use:   "compare DATA --baseline PATH",
		Short: "Say where captured data differ from the training set",
		Long: `Compare captured data, DATA, with the baseline in a package, or in a folder that
picket monitor baseline or Model Monitor has written. DATA is a file, a folder,
or s3:// and a bucket and a prefix, of captured records as SageMaker's Data
Capture or an Edge Manager device writes them (.jsonl), or of tables (.parquet,
.csv), any of them compressed (.gz, .zst).

With -o, writes constraint_violations.json and statistics.json, as Model Monitor
does, and report.html, a page with a plot for each feature.

Exit code 5 says that there are violations. With --on-breach COMMAND, a shell
then runs COMMAND; the variables PICKET_REPORT (the folder of -o), PICKET_DATA,
PICKET_BASELINE and PICKET_VIOLATIONS (how many) tell it what was found.`,
		Example: `  picket monitor compare /srv/captured --baseline fraud-3.tar.gz -o report
  picket monitor compare s3://bucket/fraud/2026/11 --baseline fraud-3.tar.gz \
    -o report --on-breach 'picket pipeline run fraud.yaml'`,
		Args: cobra.ExactArgs(1),
	}
	t := monitor.DefaultThresholds()
	var from, out, title, onBreach string
	var noHeader bool
	f := c.Flags()
	f.StringVar(&from, "baseline", "", "the package, or the folder, with the baseline, `PATH`")
	f.StringVarP(&out, "output", "o", "", "the folder for the report, `DIR`")
	f.StringVar(&title, "title", "Captured data", "what the page is about, such as the name of the model")
	f.StringVar(&onBreach, "on-breach", "", "a shell `COMMAND` to run if there are violations")
	f.BoolVar(&noHeader, "no-header", false, "the first line of CSV is data; columns are called _c0, _c1, ...")
	f.Float64Var(&t.PSI, "max-psi", t.PSI, "the highest population stability index of a feature")
	f.Float64Var(&t.ScorePSI, "max-score-psi", t.ScorePSI, "the highest of the score")
	f.Float64Var(&t.Missing, "max-missing", t.Missing, "by how much the part of missing values may be above the baseline's")
	f.Float64Var(&t.OutOfRange, "max-out-of-range", t.OutOfRange, "which part of a feature may be outside the baseline's range")
	f.Uint64Var(&t.MinRows, "min-rows", t.MinRows, "from how many rows on distributions are compared")
	open := dataFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if from == "" {
			return usage("the baseline is not named: give a package or a folder with --baseline")
		}
		if err := t.Check(); err != nil {
			return usage("%v", err)
		}
		b, err := readBaseline(c, from)
		if err != nil {
			return err
		}
		files, err := open(c.Context(), args[0])
		if err != nil {
			return err
		}
		rows, err := monitor.OpenTable(c.Context(), files, monitor.TableOptions{NoHeader: noHeader, Baseline: b.statistics})
		if err != nil {
			return fmt.Errorf("reading captured data: %w", err)
		}
		defer rows.Close()
		r, err := monitor.Compare(c.Context(), b.statistics, b.constraints, rows, t)
		if err != nil {
			return err
		}
		caption := monitor.Caption{Title: title, Data: args[0], Baseline: from, Made: time.Now()}
		if err := writeReport(out, r, caption); err != nil {
			return err
		}
		if rows.Narrow > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "picket: %d rows have fewer values than the baseline has features, and no names: they were taken for the first features. If the residency policy takes columns out, this report is wrong: give them names with capture.format.rows: json\n", rows.Narrow)
		}
		if *asJSON {
			err = writeJSON(c.OutOrStdout(), r)
		} else {
			printReport(c.OutOrStdout(), r, out, rows.ByReference)
		}
		if err != nil || len(r.Violations) == 0 {
			return err
		}
		if onBreach != "" {
			if err := runOnBreach(c, onBreach, out, caption, len(r.Violations)); err != nil {
				return err
			}
		}
		return &failure{exitViolations, fmt.Errorf("comparing %s with the baseline: violations were found: %d", args[0], len(r.Violations))}
	})
	return c
}

// reportFile is the page's name.
const reportFile = "report.html"

func writeReport(dir string, r *monitor.Report, caption monitor.Caption) error {
	if dir == "" {
		return nil
	}
	violations, err := (&monitor.Violations{Violations: r.Violations}).Encode()
	if err != nil {
		return err
	}
	statistics, err := r.Statistics.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	for name, data := range map[string][]byte{monitor.ViolationsFile: violations, monitor.StatisticsFile: statistics} {
		if err := durable.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	if err := durable.Replace(filepath.Join(dir, reportFile), 0o644, func(f *os.File) error { return r.WriteHTML(f, caption) }); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func printReport(w io.Writer, r *monitor.Report, out string, byReference uint64) {
	fmt.Fprintf(w, "%d rows compared with %d of the baseline\n", r.Rows, r.BaselineRows)
	if !r.Compared {
		fmt.Fprintln(w, "they are too few to compare distributions, see --min-rows")
	}
	if byReference > 0 {
		fmt.Fprintf(w, "%d records keep their tensors in files of their own, which were not read\n", byReference)
	}
	optional := func(x *float64) string {
		if x == nil {
			return "-"
		}
		return strconv.FormatFloat(*x, 'f', 4, 64)
	}
	fmt.Fprintf(w, "\n%-32s %8s %9s %9s %13s\n", "feature", "PSI", "distance", "missing", "out of range")
	for _, f := range r.Features {
		fmt.Fprintf(w, "%-32s %8s %9s %8.2f%% %12.2f%%\n", f.Name, optional(f.PSI), optional(f.Distance), 100*f.Missing, 100*f.OutOfRange)
	}
	for i, v := range r.Violations {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %s: %s\n", v.Feature, v.Check, v.Description)
	}
	if out != "" {
		fmt.Fprintf(w, "\nthe report is in %s\n", filepath.Join(out, reportFile))
	}
}

// runOnBreach runs what is to happen when there are violations, and waits for it.
func runOnBreach(c *cobra.Command, command, out string, caption monitor.Caption, violations int) error {
	run := exec.CommandContext(c.Context(), "/bin/sh", "-c", command)
	run.Stdout, run.Stderr = c.ErrOrStderr(), c.ErrOrStderr() // standard output is the report's
	run.Env = append(os.Environ(), "PICKET_REPORT="+out, "PICKET_DATA="+caption.Data, "PICKET_BASELINE="+caption.Baseline, "PICKET_VIOLATIONS="+strconv.Itoa(violations))
	if err := run.Run(); err != nil {
		return fmt.Errorf("violations were found, %d, and running %q: %w", violations, command, err)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/bench/peers/targets"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/suite"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/internal/hw"
)

// benchRun is what `picket bench run` was asked for.
type benchRun struct {
	family, mask, model, picketd, output, format, profile string
	targets, scenarios                                    []string
	duration                                              time.Duration
	repetitions                                           int
	quick, asJSON, list                                   bool
	seed                                                  uint64
}

func newBenchRun() *cobra.Command {
	b := &benchRun{}
	c := &cobra.Command{
		Use:   "run SUITE",
		Short: "Measure this host with a suite",
		Long: `Measure this host with a suite: Picket in this process and over each of its
sockets, with the scenarios of MLPerf Inference and others, every answer
compared with a reference while it is timed. The suite starts its own picketd,
in a folder of its own, and needs nothing else that runs.

SUITE is local for any host (under ten minutes), standard for any host at
length, repeat to be run twice and compared (two to ten minutes each), the name
of a family of EC2 instances that Outposts have, or a file of your own
(FILE.yaml); --list shows all.`,
		Example: `  picket bench run local -o before.json
  picket bench run m5 --family m5 --mask x86-64-v3 -o masked.json
  picket bench run local --scenarios SingleStream --targets lane,ring`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&b.family, "family", "", "take this host for one of the `FAMILY`, whatever it says itself")
	f.StringVar(&b.mask, "mask", os.Getenv(hw.EnvCPUMask), "take these `FEATURES` of the processor away: avx512f, or all above x86-64-v3; also $"+hw.EnvCPUMask)
	f.StringSliceVar(&b.targets, "targets", nil, "measure these alone, of "+strings.Join(suites.Targets(), ", ")+", and peers by name")
	f.StringSliceVar(&b.scenarios, "scenarios", nil, "measure these alone, of "+strings.Join(suites.Scenarios(), ", "))
	f.StringVar(&b.model, "model", "", "measure this `FILE` of XGBoost, LightGBM or ONNX instead of the suite's models")
	f.DurationVar(&b.duration, "duration", 0, "how long each repetition takes, instead of what the suite says")
	f.IntVar(&b.repetitions, "repetitions", 0, "how many repetitions there are, instead of what the suite says")
	f.BoolVar(&b.quick, "quick", false, "make everything tiny: shows in seconds that all works, and measures nothing")
	f.Uint64Var(&b.seed, "seed", 1, "of arrivals, rows and the order of turns")
	f.StringVar(&b.picketd, "picketd", "", "the daemon's `PROGRAM`; by default the one beside this, then the one in $PATH")
	f.StringVar(&b.profile, "profile", "", "write profiles into `DIR`: this process's by Go, and by perf with C frames where it works")
	f.StringVarP(&b.output, "output", "o", "", "write the result, JSON, to `FILE`")
	f.StringVar(&b.format, "format", "text", "what to print: text, json, or benchstat for the program of that name")
	f.BoolVar(&b.asJSON, "json", false, "print JSON: --format json")
	f.BoolVar(&b.list, "list", false, "list the suites")
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if b.list {
			return listSuites(c.OutOrStdout())
		}
		if len(args) == 0 {
			return usage("which suite? %s", strings.Join(suites.Names(), ", "))
		}
		if b.asJSON {
			b.format = "json"
		}
		return b.run(c, args[0])
	})
	return c
}

func listSuites(w io.Writer) error {
	for _, name := range suites.Names() {
		s, err := suites.Of(name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%-10s%s\n", name, s.For); err != nil {
			return fmt.Errorf("writing the output: %w", err)
		}
	}
	return nil
}

func (b *benchRun) run(c *cobra.Command, name string) error {
	write, err := b.writer()
	if err != nil {
		return err
	}
	s, err := suiteOf(name)
	if err != nil {
		return usage("%v", err)
	}
	for _, scenario := range b.scenarios {
		if !slices.Contains(suites.Scenarios(), scenario) {
			return usage("there is no scenario %q; there are %s", scenario, strings.Join(suites.Scenarios(), ", "))
		}
	}
	if b.duration < 0 || b.repetitions < 0 {
		return usage("--duration and --repetitions cannot be below 0")
	}
	program, err := b.daemon()
	if err != nil {
		return err
	}
	host, err := b.host(c.Context())
	if err != nil {
		return err
	}
	// Interrupted, it ends the servers that it has started.
	ctx, stop := interruptible(c)
	defer stop()
	result, err := suite.Run(ctx, suite.Options{
		Suite: s, Family: b.family, Host: host, Mask: b.mask, Root: os.DirFS("/"), Scenarios: b.scenarios, Targets: b.targets, Model: b.model,
		Duration: b.duration, Repetitions: b.repetitions, Quick: b.quick, Seed: b.seed, Picketd: program, Version: version, Commit: commit,
		Starters: append([]target.Starter{target.StartEmpty(version), target.StartEngine(version, host)}, targets.Starters()...), Profile: b.profile,
		Say: func(line string) { fmt.Fprintf(c.ErrOrStderr(), "picket bench: %s\n", line) },
	})
	if err != nil {
		return err
	}
	if b.output != "" {
		if err := writeWhole(b.output, result.Write); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
		fmt.Fprintf(c.ErrOrStderr(), "picket bench: wrote %s\n", b.output)
	}
	return write(result, c.OutOrStdout())
}

// suiteOf is the suite of a name, or in a file.
func suiteOf(name string) (*suites.Suite, error) {
	if filepath.Ext(name) == ".yaml" {
		return suites.Read(name)
	}
	return suites.Of(name)
}

// writer is what prints the result.
func (b *benchRun) writer() (func(*report.Result, io.Writer) error, error) {
	switch b.format {
	case "text":
		return (*report.Result).WriteText, nil
	case "json":
		return (*report.Result).Write, nil
	case "benchstat":
		return (*report.Result).WriteBenchstat, nil
	}
	return nil, usage("--format %q is none of text, json, benchstat", b.format)
}

// daemon finds picketd.
func (b *benchRun) daemon() (string, error) {
	if b.picketd != "" {
		return b.picketd, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "picketd")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	found, err := exec.LookPath("picketd")
	if err != nil {
		return "", errors.New("picketd is neither beside picket nor in $PATH; say where it is with --picketd")
	}
	return found, nil
}

// host is this host without the features that are masked.
func (b *benchRun) host(ctx context.Context) (*hw.Host, error) {
	return detect(ctx, func(name string) string {
		if name == hw.EnvCPUMask {
			return b.mask
		}
		return os.Getenv(name)
	})
}

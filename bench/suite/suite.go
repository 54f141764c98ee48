// Package suite runs a benchmark suite and gives its result. docs/bench.md says how it measures and why so.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/picket-ml/picket/bench/environment"
	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/internal/hw"
)

// Options say how a suite is run.
type Options struct {
	Suite *suites.Suite
	// Family is what the caller says that the host is; empty to believe what it says itself.
	Family string
	// Host is this host, with the features in Mask taken away.
	Host *hw.Host
	Mask string
	// Root holds proc and sys.
	Root fs.FS
	// Scenarios and Targets are those that are measured; empty is all.
	Scenarios, Targets []string
	// Model, if it is named, is the file that is measured in the place of the suite's models.
	Model string
	// Duration of each repetition, and how many there are; 0 is what the suite says.
	Duration    time.Duration
	Repetitions int
	// Quick shortens everything to seconds: it shows that all works, and measures nothing.
	Quick bool
	Seed  uint64
	// Picketd is the daemon's program.
	Picketd         string
	Version, Commit string
	// Starters start the targets that are not sockets of picketd, and a peer each.
	Starters []target.Starter
	// Profile is a folder for profiles; empty for none.
	Profile string
	// Say is told how things go, a line at a time; nil for nobody.
	Say func(line string)
}

// What Quick makes of a suite.
const (
	quickDuration = 60 * time.Millisecond
	quickWarmUp   = 10 * time.Millisecond
	quickReps     = 2
)

// runner is one run of a suite.
type runner struct {
	Options
	dir    string
	result *report.Result
	random *rand.Rand
	watch  *environment.Watch
	clock  time.Duration // what reading it costs
	record float64       // nanoseconds that timing and recording a request takes

	models  []*target.Model
	targets map[string]target.Target
	groups  []*target.Group
	daemon  *target.Daemon
	// captures are the daemons of scenario Capture by case.
	captures map[string]*target.Daemon
	turn     int
	absent   map[report.LeftOut]bool // told already
}

// Run runs a suite. The result is whole when the error is nil; the caller writes it. Nothing that was started is left behind.
func Run(ctx context.Context, o Options) (_ *report.Result, err error) {
	// The generator's own collections of garbage are to be rare: they would be waited for as if the target were slow.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return nil, fmt.Errorf("making a folder for sockets and models: %w", err)
	}
	r := newRunner(o, dir)
	defer func() { err = errors.Join(err, r.end(), os.RemoveAll(dir)) }()
	r.begin()
	runs := r.chosen()
	if len(runs) == 0 {
		return nil, fmt.Errorf("suite %s has no run of the scenarios and targets that were chosen", o.Suite.Name)
	}
	if r.record, err = recordCost(ctx); err != nil {
		return nil, err
	}
	if err := r.prepare(runs); err != nil {
		return nil, err
	}
	stop, err := r.profile()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := r.start(ctx, runs); err != nil {
		return nil, err
	}
	if err := r.measure(ctx, runs); err != nil {
		return nil, err
	}
	r.overhead()
	r.result.Noise = r.watch.Noise()
	r.result.Ended = time.Now().UTC()
	return r.result, nil
}

// newRunner is a run that has not begun, with a folder for what it writes.
func newRunner(o Options, dir string) *runner {
	if o.Say == nil {
		o.Say = func(string) {}
	}
	return &runner{
		Options: o, dir: dir, random: rand.New(rand.NewPCG(o.Seed, 11)), targets: map[string]target.Target{},
		captures: map[string]*target.Daemon{}, absent: map[report.LeftOut]bool{},
	}
}

// begin records what is known before anything is measured.
func (r *runner) begin() {
	r.result = &report.Result{
		Schema: report.Schema, Version: report.Version, Began: time.Now().UTC(),
		Tool: report.Tool{Version: r.Version, Commit: r.Commit, Go: runtime.Version()},
		Suite: report.SuiteRun{
			Name: r.Suite.Name, Digest: r.Suite.Digest, Family: r.Suite.Family, Forced: r.Family != "", Quick: r.Quick, Mask: r.Mask, Seed: r.Seed,
		},
		Environment: environment.Describe(r.Host, r.Root),
		Marks:       []string{}, Runs: []report.Run{}, LeftOut: []report.LeftOut{},
	}
	r.result.Environment.Differences = differences(r.Suite, r.Family, &r.result.Environment)
	r.mark()
	r.watch = environment.NewWatch(r.Root, r.Host.CPU.Threads, r.serversCPU)
	r.clock = load.ClockCost()
}

// serversCPU is the processor time of all that the suite has started and that lives.
func (r *runner) serversCPU() time.Duration {
	total := time.Duration(0)
	for _, s := range r.servers() {
		if cpu, err := s.CPU(); err == nil { // one that has ended is waited for and counted so
			total += cpu
		}
	}
	return total
}

// servers are all processes that targets have.
func (r *runner) servers() []*process.Server {
	var all []*process.Server
	add := func(s *process.Server) {
		if s != nil && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, t := range r.targets {
		add(t.Process())
	}
	for _, d := range r.daemons() {
		add(d.Server)
	}
	return all
}

// daemons are the suite's picketds.
func (r *runner) daemons() []*target.Daemon {
	var all []*target.Daemon
	if r.daemon != nil {
		all = append(all, r.daemon)
	}
	for _, name := range slices.Sorted(maps.Keys(r.captures)) {
		all = append(all, r.captures[name])
	}
	return all
}

// chosen are the runs with what was chosen of their targets, shortened where that was asked for.
func (r *runner) chosen() []suites.Run {
	var runs []suites.Run
	for _, run := range r.Suite.Runs {
		if len(r.Scenarios) > 0 && !slices.Contains(r.Scenarios, run.Scenario) {
			continue
		}
		run.Targets = slices.DeleteFunc(slices.Clone(run.Targets), func(name string) bool { return !r.wants(name) })
		if len(run.Targets) == 0 {
			continue
		}
		if r.Model != "" {
			run.Models = []string{ownModel}
		}
		if r.Duration > 0 {
			run.Duration = r.Duration
		}
		if r.Repetitions > 0 {
			run.Repetitions = r.Repetitions
		}
		if r.Quick {
			run.Duration, run.Repetitions = quickDuration, quickReps
		}
		runs = append(runs, run)
	}
	return runs
}

// wants reports whether a target is measured.
func (r *runner) wants(name string) bool {
	return len(r.Targets) == 0 || slices.Contains(r.Targets, name) || name == "peers" && slices.ContainsFunc(r.Targets, isPeer)
}

func isPeer(name string) bool { return !slices.Contains(suites.Targets(), name) }

func (r *runner) warmUp() time.Duration {
	if r.Quick {
		return quickWarmUp
	}
	return r.Suite.WarmUp
}

// leave says that something is not measured, once.
func (r *runner) leave(l report.LeftOut) {
	if !r.absent[l] {
		r.absent[l] = true
		r.result.LeftOut = append(r.result.LeftOut, l)
		r.Say(fmt.Sprintf("left out: %s, %s: %s", l.Engine, l.Model, l.Why))
	}
}

// start starts all targets that runs need, and lays their servers to rest.
func (r *runner) start(ctx context.Context, runs []suites.Run) error {
	served := r.served(runs)
	wanted := func(name string) bool {
		return r.wants(name) && slices.ContainsFunc(runs, func(run suites.Run) bool {
			return slices.Contains(run.Targets, name) || isPeer(name) && slices.Contains(run.Targets, "peers")
		})
	}
	for i, start := range r.Starters {
		g, err := start(ctx, filepath.Join(r.dir, fmt.Sprintf("start%d", i)), served, wanted)
		if err != nil {
			return err
		}
		r.groups = append(r.groups, g)
		for _, l := range g.LeftOut {
			r.leave(l)
		}
		for _, t := range g.Targets {
			r.targets[t.Info().Name] = t
		}
	}
	if slices.ContainsFunc([]string{suites.Lane, suites.Ring, suites.Agent, suites.OIPGRPC, suites.OIPHTTP}, wanted) {
		if err := r.startDaemon(ctx, served, wanted); err != nil {
			return err
		}
	}
	for _, run := range runs {
		if run.Scenario == suites.Capture {
			if err := r.startCaptures(ctx, served); err != nil {
				return err
			}
			break
		}
	}
	for _, s := range r.servers() {
		if err := s.Rest(); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.targets)) {
		r.result.Targets = append(r.result.Targets, r.targets[name].Info())
	}
	return nil
}

// daemonOptions are those of every picketd.
func (r *runner) daemonOptions(extra string) target.DaemonOptions {
	return target.DaemonOptions{Program: r.Picketd, Version: r.Version, Mask: r.Mask, Extra: extra}
}

// servable are the models that this host's engine can run so.
func (r *runner) servable(served []target.Served) []target.Served {
	return slices.DeleteFunc(slices.Clone(served), func(s target.Served) bool {
		return slices.ContainsFunc(r.result.LeftOut, func(l report.LeftOut) bool { return l.Engine == suites.Engine && l.Model == s.Name() })
	})
}

func (r *runner) startDaemon(ctx context.Context, served []target.Served, wanted func(string) bool) (err error) {
	if r.daemon, err = target.StartDaemon(ctx, filepath.Join(r.dir, "picketd"), r.servable(served), r.daemonOptions("")); err != nil {
		return err
	}
	r.groups = append(r.groups, &target.Group{Close: r.daemon.Stop})
	for _, t := range r.daemon.Over() {
		if wanted(t.Info().Name) {
			r.targets[t.Info().Name] = t
		}
	}
	return nil
}

// captureCases are the daemons of scenario Capture, with the configuration of each.
var captureCases = map[string]string{
	"capture=off":  "",
	"capture=10%":  "capture: {enabled: true}\nmodel_defaults: {capture: {rate: 0.1}}\n",
	"capture=100%": "capture: {enabled: true}\nmodel_defaults: {capture: {rate: 1}}\n",
}

func (r *runner) startCaptures(ctx context.Context, served []target.Served) error {
	for i, name := range slices.Sorted(maps.Keys(captureCases)) {
		d, err := target.StartDaemon(ctx, filepath.Join(r.dir, fmt.Sprintf("capture%d", i)), r.servable(served), r.daemonOptions(captureCases[name]))
		if err != nil {
			return fmt.Errorf("starting a daemon with %s: %w", name, err)
		}
		r.groups = append(r.groups, &target.Group{Close: d.Stop})
		r.captures[name] = d
	}
	return nil
}

// end ends all that was started.
func (r *runner) end() error {
	var all error
	for _, g := range slices.Backward(r.groups) {
		all = errors.Join(all, g.Close())
	}
	return all
}

package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/load"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/internal/hw"
)

// differences are where the host is not the suite's.
func differences(s *suites.Suite, forced string, e *report.Environment) []report.Difference {
	all := []report.Difference{}
	differ := func(what, expected, found string) {
		all = append(all, report.Difference{What: what, Expected: expected, Found: found})
	}
	if family := orElse(forced, e.Instance.Family); s.Family != "" && family != s.Family {
		differ("instance family", s.Family, orElse(family, "unknown"))
	}
	x := &s.Expect
	if x.Arch != "" && e.CPU.Arch != x.Arch {
		differ("architecture", x.Arch, e.CPU.Arch)
	}
	if len(x.Processors) > 0 && !slices.ContainsFunc(x.Processors, func(name string) bool { return strings.Contains(e.CPU.Model, name) }) {
		differ("processor", strings.Join(x.Processors, " or "), e.CPU.Model)
	}
	if x.Level != "" && !hw.Level(e.CPU.Level).Runs(x.Level) {
		differ("instruction set", string(x.Level), e.CPU.Level)
	}
	var lacks []string
	for _, f := range x.Features {
		if !slices.Contains(e.CPU.Features, f) {
			lacks = append(lacks, f)
		}
	}
	if len(lacks) > 0 {
		differ("features", strings.Join(x.Features, ", "), "without "+strings.Join(lacks, ", "))
	}
	if e.CPU.Threads < x.LeastThreads {
		differ("logical processors", fmt.Sprintf("at least %d", x.LeastThreads), strconv.Itoa(e.CPU.Threads))
	}
	gib := float64(e.Memory.TotalBytes) / (1 << 30)
	if gib < 0.9*float64(x.LeastMemoryGiB) { // the kernel keeps some
		differ("memory", fmt.Sprintf("at least %d GiB", x.LeastMemoryGiB), fmt.Sprintf("%.1f GiB", gib))
	}
	if each := gib / float64(max(1, e.CPU.Threads)); x.MemoryGiBPerThread > 0 && (each < 0.8*x.MemoryGiBPerThread || each > 1.1*x.MemoryGiBPerThread) {
		differ("memory for each logical processor", fmt.Sprintf("%g GiB", x.MemoryGiBPerThread), fmt.Sprintf("%.1f GiB", each))
	}
	if x.SMT != "" && e.CPU.SMT != x.SMT {
		differ("SMT", x.SMT, e.CPU.SMT)
	}
	if x.GPU != "" && !slices.ContainsFunc(e.GPUs, func(g report.GPU) bool { return strings.Contains(g.Name, x.GPU) }) {
		differ("GPU", x.GPU, gpuNames(e.GPUs))
	}
	if x.MostNUMANodes > 0 && e.Memory.NUMANodes > x.MostNUMANodes {
		differ("NUMA nodes", fmt.Sprintf("at most %d", x.MostNUMANodes), strconv.Itoa(e.Memory.NUMANodes))
	}
	if x.HugePages != "" && e.Memory.TransparentHugePages != x.HugePages {
		differ("transparent huge pages", x.HugePages, orElse(e.Memory.TransparentHugePages, "unknown"))
	}
	return all
}

func gpuNames(gpus []report.GPU) string {
	var names []string
	for _, g := range gpus {
		names = append(names, g.Name)
	}
	return orElse(strings.Join(names, ", "), "none")
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// mark says what makes these figures other than the suite's host would give.
func (r *runner) mark() {
	say := func(format string, values ...any) {
		r.result.Marks = append(r.result.Marks, fmt.Sprintf(format, values...))
	}
	if r.Quick {
		say("this was a quick run, which measures nothing")
	}
	for _, d := range r.result.Environment.Differences {
		say("suite %s is for another host: %s is to be %s and is %s", r.Suite.Name, d.What, d.Expected, d.Found)
	}
	if r.Family != "" && r.Family != r.result.Environment.Instance.Family {
		say("family %s was named by the caller; the host itself is %s", r.Family, orElse(r.result.Environment.Instance.Family, "of no family that it tells"))
	}
	if masked := r.Host.CPU.Masked; len(masked) > 0 {
		say("features of the processor were masked: %s", strings.Join(masked, ", "))
	}
	if r.Model != "" {
		say("the model was the caller's own instead of the suite's")
	}
	if r.Duration != 0 || r.Repetitions != 0 {
		say("repetitions were changed by the caller")
	}
}

// How the cost of recording is found: in so many rounds, each with it and without for so long.
const (
	recordRounds = 11
	recordTime   = 8 * time.Millisecond
)

// recordCost is how many nanoseconds it takes to time and record one request: what requests that take nothing take with it and
// without, in turns, and the median of the differences, as whatever disturbs a turn is in one of the two.
func recordCost(ctx context.Context) (float64, error) {
	nothing, err := target.StartEmpty("")(ctx, "", nil, func(string) bool { return true })
	if err != nil {
		return 0, err
	}
	client, err := nothing.Targets[0].Connect(target.Served{}, 1)
	if err != nil {
		return 0, err
	}
	each := func(askOnly bool) (float64, error) {
		for { // a busy machine may keep the caller from the processor for longer than a turn
			m, err := load.Run(ctx, load.Plan{Clients: []protocols.Client{client}, Rows: 1, Duration: recordTime, AskOnly: askOnly})
			if err != nil {
				return 0, err
			}
			if rate := m.PerSecond(); rate > 0 {
				return 1e9 / rate, nil
			}
		}
	}
	differences := make([]float64, 0, recordRounds)
	for range recordRounds {
		with, err := each(false)
		if err != nil {
			return 0, err
		}
		without, err := each(true)
		if err != nil {
			return 0, err
		}
		differences = append(differences, with-without)
	}
	return max(0, stats.Median(differences)), nil
}

// places are the processors of the two sides of a run that is pinned: one for both, or half of those that this process may use each.
func (r *runner) places(pin string) (server, clients []int, err error) {
	allowed := r.Host.CPU.Affinity
	switch {
	case pin == suites.Together && len(allowed) > 0:
		return allowed[:1], allowed[:1], nil
	case pin == suites.Apart && len(allowed) > 1:
		return allowed[:len(allowed)/2], allowed[len(allowed)/2:], nil
	}
	return nil, nil, fmt.Errorf("there are not processors enough to keep the two sides %s", pin)
}

// pin keeps the target's server and this process on processors of their own, where the run says so, until the function is called.
func (r *runner) pin(c *cell) (unpin func() error, err error) {
	p := c.target.Process()
	if c.Pin == "" {
		return func() error { return nil }, nil
	}
	if p == nil {
		return nil, errors.New("a target in this process has no processors of its own")
	}
	server, clients, err := r.places(c.Pin)
	if err != nil {
		return nil, err
	}
	pids, err := p.PIDs()
	if err != nil {
		return nil, err
	}
	all := func(server, clients []int) error {
		err := hw.BindProcess(os.Getpid(), clients)
		for _, pid := range pids {
			err = errors.Join(err, hw.BindProcess(pid, server))
		}
		return err
	}
	return func() error { return all(r.Host.CPU.Affinity, r.Host.CPU.Affinity) }, all(server, clients)
}

// pinned reports which processors those are.
func (r *runner) pinned(c *cell, p *report.Parameters) {
	if c.Pin == "" {
		return
	}
	if server, clients, err := r.places(c.Pin); err == nil {
		p.Pinned, p.PinnedClients = server, clients
	}
}

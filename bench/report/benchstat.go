package report

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// WriteBenchstat writes the runs in the form of Go's benchmarks, a line for each repetition, which benchstat compares. The names
// are keys with values, so that benchstat's -col and -filter work: benchstat -col /target result.txt.
func (r *Result) WriteBenchstat(w io.Writer) error {
	out := bufio.NewWriter(w)
	e := &r.Environment
	fmt.Fprintf(out, "goos: linux\ngoarch: %s\npkg: picket/%s\ncpu: %s\n", e.CPU.Arch, r.Suite.Name, e.CPU.Model)
	for _, mark := range r.Marks {
		fmt.Fprintf(out, "mark: %s\n", mark)
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		p := &run.Parameters
		name := fmt.Sprintf("Benchmark%s/model=%s/target=%s/rows=%d/outstanding=%d/threads=%d", run.Scenario, run.Model, run.Target, p.Rows, p.Outstanding, p.Threads)
		if p.Case != "" {
			name += "/case=" + strings.ReplaceAll(p.Case, "/", "_")
		}
		for n := range run.Repetitions {
			rep := &run.Repetitions[n]
			seconds := time.Duration(rep.DurationNS).Seconds()
			if rep.LeftOut || rep.Counts.Answered == 0 || seconds <= 0 {
				continue
			}
			figure := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
			fmt.Fprintf(out, "%s-%d\t%d\t%s ns/op", name, e.CPU.Threads, rep.Counts.Answered, figure(rep.Latency.Mean()))
			for _, q := range []struct {
				unit string
				at   float64
			}{{"p50-ns", 0.5}, {"p90-ns", 0.9}, {"p99-ns", 0.99}, {"p99.9-ns", 0.999}} {
				fmt.Fprintf(out, "\t%d %s", int64(rep.Latency.Quantile(q.at)), q.unit)
			}
			fmt.Fprintf(out, "\t%s requests/s\t%s rows/s\n", figure(float64(rep.Counts.Answered)/seconds), figure(float64(rep.Counts.Rows)/seconds))
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the result for benchstat: %w", err)
	}
	return nil
}

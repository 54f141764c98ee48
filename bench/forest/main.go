//go:build cgo && linux

// Command forest measures backends/forest against the other libraries that run tree models, in one run, taking turns: every
// model of bench/models, few and many rows, with and without missing values, alone and shuffled, on one core and on two.
// A table and the goals go to standard error, everything as JSON to standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/peers"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
)

// testRows is how many different rows of each kind there are, and the most of one call.
const testRows = 65_536

// options are what of the benchmark to run, and how thoroughly.
type options struct {
	models, peers, rows, values, cores, conditions string
	quick, ready                                   bool
	limit                                          time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.models, "model", "", "only models whose name contains one of these, separated by commas")
	flag.StringVar(&o.peers, "peer", "", "only peers whose name contains one of these, separated by commas; \"none\" for none")
	flag.StringVar(&o.rows, "rows", "1,8,64,1024,65536", "rows per call, separated by commas")
	flag.StringVar(&o.values, "values", "", "\"missing\" or \"complete\" rows only")
	flag.StringVar(&o.cores, "cores", "1,2", "cores, separated by commas")
	flag.StringVar(&o.conditions, "condition", "", "\"hot\" or \"shuffled\" only")
	flag.BoolVar(&o.quick, "quick", false, "a third of the repetitions")
	flag.BoolVar(&o.ready, "ready", false, "leave out what would first have to be trained, compiled or converted")
	flag.DurationVar(&o.limit, "limit", 2500*time.Millisecond, "leave a peer out of calls that would take longer")
	// Interrupted, it tells what it has measured.
	program.Main("bench-forest", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o options) error {
	// libdlr keeps its last error per thread, and OpenMP its threads.
	runtime.LockOSThread()
	rows, err := numbers(o.rows)
	if err != nil {
		return err
	}
	cores, err := numbers(o.cores)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(rows, func(n int) bool { return n < 1 || n > testRows }) || slices.ContainsFunc(cores, func(n int) bool { return n != 1 && n != 2 }) {
		return fmt.Errorf("rows must be 1 to %d and cores 1 or 2", testRows)
	}
	if err := peers.Install(ctx); err != nil {
		return err
	}
	b := &benchmark{options: o, rows: rows, cores: cores, out: report.New(), notes: map[string]string{}}
	start := time.Now()
	for _, m := range models.Specs() {
		if !chosen(o.models, m.Name) {
			continue
		}
		if o.ready && !m.Trained() {
			b.leave(m, "all", 0, 0, "it was not trained yet")
			b.warn("%s was not trained yet and is left out", m.Name)
			continue
		}
		if err := b.model(ctx, m); err != nil {
			return errors.Join(fmt.Errorf("measuring model %s: %w", m.Name, err), b.finish())
		}
		fmt.Fprintf(os.Stderr, "bench-forest: %s done after %.0f s\n", m.Name, time.Since(start).Seconds())
	}
	return b.finish()
}

// numbers reads numbers separated by commas.
func numbers(list string) ([]int, error) {
	var all []int
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", word)
		}
		all = append(all, n)
	}
	return all, nil
}

// chosen reports whether name contains one of the words of list; an empty list chooses all.
func chosen(list, name string) bool {
	if list == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(list, ","), func(word string) bool { return strings.Contains(name, word) })
}

// Command batching measures what putting requests together gives and costs: a model
// that takes a fixed time a run, nearly whatever its rows, over lane.sock, with
// batching and without (max_batch_rows 1). JSON goes to standard output.
//
// At saturation many callers with a connection each send one row and wait for the
// answer. The ideal is a run of max_batch_rows rows after the other without a pause
// between them. Of one caller at a time nothing can be put together, so all that
// batching can do is to cost him something: call by call he asks both models in
// random order. The server is a process of its own with the engine and the lane's
// server of picketd, and shares the cores with the callers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/bench/fixedcost"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// What is promised.
const (
	leastOfIdeal = 0.9
	mostAdded    = 1.02 // times the latency without batching
)

// The names of the models, which are what the results call the targets.
const (
	batching = "batching"
	alone    = "batching off"
	onName   = "on"
	offName  = "off"
)

type settings struct {
	cost    fixedcost.Cost
	rows    int // max_batch_rows
	callers int
	turn    time.Duration
	turns   int
	serve   string // the socket, where this process is the server
}

func main() {
	var s settings
	flag.DurationVar(&s.cost.Run, "run", 500*time.Microsecond, "how long a run takes")
	flag.DurationVar(&s.cost.Row, "row", time.Microsecond, "how much longer with each row")
	flag.IntVar(&s.rows, "rows", 16, "the most rows of a run (max_batch_rows)")
	flag.IntVar(&s.callers, "callers", 64, "how many callers there are at saturation")
	flag.DurationVar(&s.turn, "turn", 400*time.Millisecond, "how long a turn at saturation takes")
	flag.IntVar(&s.turns, "turns", 10, "how many turns there are, with batching and without")
	flag.StringVar(&s.serve, "serve", "", "be the server, on this socket")
	program.Main("bench-batching", s.main)
}

func (s *settings) main(ctx context.Context) (err error) {
	if s.serve != "" {
		return fixedcost.Serve(ctx, s.serve, s.cost, map[string]engine.ModelOptions{onName: {MaxBatchRows: s.rows}, offName: {MaxBatchRows: 1}})
	}
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for a socket: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	socket := filepath.Join(dir, "lane.sock")
	server, err := versus.Start(ctx, dir, self, "-serve", socket, "-run", s.cost.Run.String(), "-row", s.cost.Row.String(), "-rows", fmt.Sprint(s.rows))
	if err != nil {
		return err
	}
	defer server.Stop()

	out := report.New()
	one, err := s.oneCaller(ctx, socket, out)
	if err != nil {
		return err
	}
	many, err := s.saturation(ctx, socket, out)
	if err != nil {
		return err
	}
	out.Results = slices.Concat(one, many)
	return out.Write()
}

// oneCaller compares the two models for a caller who waits for each answer.
func (s *settings) oneCaller(ctx context.Context, socket string, out *report.Report) ([]report.Serving, error) {
	connect := func(model string) func() (versus.Call, io.Closer, error) {
		return func() (versus.Call, io.Closer, error) {
			c, err := newCaller(ctx, socket, model)
			if err != nil {
				return nil, nil, err
			}
			return func(ctx context.Context, _ *rand.Rand) (time.Duration, int, error) {
				start := time.Now()
				err := c.call(ctx)
				return time.Since(start), len(c.out[0]), err
			}, c, nil
		}
	}
	results, err := versus.Comparison{
		Protocol: "lane", Load: versus.Load{Model: models.Model{Name: "fixed cost"}, Rows: 1, Outstanding: 1},
		Targets: []versus.Target{{Name: alone, Connect: connect(offName)}, {Name: batching, Connect: connect(onName)}},
	}.Measure(ctx)
	if err != nil {
		return nil, err
	}
	off, on := results[0], results[1]
	out.Promise(fmt.Sprintf("p50 with batching to without, one caller (without %.0f us)", off.P50US), on.P50US/off.P50US, "ratio", mostAdded)
	out.Promise(fmt.Sprintf("p99 with batching to without, one caller (without %.0f us)", off.P99US), on.P99US/off.P99US, "ratio", mostAdded)
	return results, nil
}

// saturation has all callers ask one model and then the other, again and again.
func (s *settings) saturation(ctx context.Context, socket string, out *report.Report) ([]report.Serving, error) {
	type side struct {
		callers  []*caller
		answered int64
		busy     time.Duration
	}
	sides := map[string]*side{onName: {}, offName: {}}
	for model, side := range sides {
		for range s.callers {
			c, err := newCaller(ctx, socket, model)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			side.callers = append(side.callers, c)
		}
	}
	for turn := range 2 * s.turns {
		side := sides[[]string{onName, offName}[turn%2]]
		var over atomic.Bool
		var answered atomic.Int64
		var failed atomic.Pointer[error]
		start := time.Now()
		timer := time.AfterFunc(s.turn, func() { over.Store(true) })
		var wg sync.WaitGroup
		for _, c := range side.callers {
			wg.Go(func() {
				for !over.Load() {
					if err := c.call(ctx); err != nil {
						failed.Store(&err)
						return
					}
					answered.Add(1)
				}
			})
		}
		wg.Wait()
		timer.Stop()
		if err := failed.Load(); err != nil {
			return nil, *err
		}
		side.answered += answered.Load()
		side.busy += time.Since(start)
	}
	var results []report.Serving
	rate := map[string]float64{}
	for _, t := range []struct{ model, target string }{{offName, alone}, {onName, batching}} {
		side := sides[t.model]
		rate[t.model] = float64(side.answered) / side.busy.Seconds()
		results = append(results, report.Serving{
			Target: t.target, Protocol: "lane", Model: "fixed cost", Outstanding: s.callers, Rows: 1, RowsPerS: rate[t.model],
		})
	}
	ideal := s.cost.Capacity(s.rows)
	out.Reach(fmt.Sprintf("rows/s to the ideal of %.0f, %d callers of one row, at most %d rows a run of %v", ideal, s.callers, s.rows, s.cost.Of(s.rows)), rate[onName]/ideal, leastOfIdeal)
	out.Tell(fmt.Sprintf("rows/s with batching to without (%.0f)", rate[offName]), rate[onName]/rate[offName], "ratio")
	return results, nil
}

// caller is a client with a connection of its own.
type caller struct {
	*lane.Client
	model   *lane.Model
	in, out [][]byte
}

// connectPatience is how long the server may take to load its models.
const connectPatience = 30 * time.Second

func newCaller(ctx context.Context, socket, model string) (*caller, error) {
	c := &caller{in: [][]byte{tensor.AsBytes(make([]float32, fixedcost.Columns))}, out: [][]byte{make([]byte, 4)}}
	for end := time.Now().Add(connectPatience); ; time.Sleep(10 * time.Millisecond) {
		var err error
		if c.Client, err = lane.Dial(ctx, socket, lane.Options{}); err == nil {
			break
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
	var err error
	if c.model, err = c.Model(ctx, model); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *caller) call(ctx context.Context) error { return c.model.PredictInto(ctx, 1, c.in, c.out) }

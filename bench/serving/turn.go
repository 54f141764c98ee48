package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/versus"
)

const (
	warmUp      = 100 * time.Millisecond // at least, before calls are counted
	warmUpCalls = 2                      // of each client, at least
	// A server that has ended would be waited for without end.
	patience = time.Minute
)

// load is so many callers that each wait for an answer before they ask again, and how many rows they ask about.
type load struct{ rows, outstanding int }

// loads are the loads that all are measured with.
var loads = []load{{1, 1}, {1, 16}, {1, 64}, {64, 1}, {64, 16}}

// target is one way to ask one server.
type target struct {
	server   *process.Server
	protocol string
	ask      protocols.Ask
	// clients makes the clients of a load; nil where the target is not measured with it.
	clients func(protocols.Ask, load) *clients
}

func (t *target) transport() string {
	if strings.HasPrefix(t.ask.Address, "/") {
		return "Unix socket"
	}
	return "TCP loopback"
}

// clients make up a load together.
type clients struct {
	connect        func() (versus.Call, io.Closer, error)
	number, atOnce int // of the clients, and of the requests that each sends with one write
}

// each is a client for each outstanding call, connected by connect.
func each(connect func(protocols.Ask) (protocols.Client, error)) func(protocols.Ask, load) *clients {
	return func(ask protocols.Ask, l load) *clients {
		return &clients{versus.Timed(func() (protocols.Client, error) { return connect(ask) }), l.outstanding, 1}
	}
}

// overHTTP is a client over HTTP for each outstanding call.
func overHTTP(form protocols.Form) func(protocols.Ask, load) *clients {
	return func(ask protocols.Ask, l load) *clients {
		return &clients{versus.Timed(ask.HTTP(form, protocols.Path(ask.Model))), l.outstanding, 1}
	}
}

// onePerCall is a client of the lane for each outstanding call.
func onePerCall(ask protocols.Ask, l load) *clients {
	return &clients{versus.Timed(ask.Lane(1)), l.outstanding, 1}
}

// ringPerCall is a client with a ring for each outstanding call, well below as many as a daemon gives.
func ringPerCall(ask protocols.Ask, l load) *clients {
	if l.outstanding > 16 {
		return nil
	}
	return &clients{versus.Timed(ask.Ring), l.outstanding, 1}
}

// twoPipelines are two clients of the lane with half of the requests each.
func twoPipelines(ask protocols.Ask, l load) *clients {
	if l.outstanding < 4 {
		return nil
	}
	return &clients{versus.Timed(ask.Lane(l.outstanding / 2)), 2, l.outstanding / 2}
}

// of is the target's clients for a load.
func (t *target) of(l load) *clients {
	ask := t.ask
	ask.Count = l.rows
	return t.clients(ask, l)
}

// once makes one call, as a test.
func (t *target) once(ctx context.Context) error {
	c := t.of(load{1, 16}) // which all targets have
	call, closer, err := c.connect()
	if err != nil {
		return err
	}
	_, _, err = call(ctx, rand.New(rand.NewPCG(1, 1)))
	return errors.Join(err, closer.Close())
}

// counted is the calls of a turn.
type counted struct {
	took []time.Duration // of those that count
	rate float64         // requests per second
	all  int             // requests, with those that do not count
	cpu  time.Duration   // that the server took for all
}

// turn wakes the target's server, has clients ask it for a while, and lays it to rest again. Each turn has new connections, as
// servers close those that are idle. When every client has had its first answers, the calls that end within the window are
// counted, while the clients go on beyond its end: what is measured is the middle of a steady load.
func (t *target) turn(ctx context.Context, c *clients, window time.Duration, seed uint64) (_ counted, err error) {
	if err := t.server.Wake(); err != nil {
		return counted{}, err
	}
	defer func() { err = errors.Join(err, t.server.Rest()) }()
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	before, err := t.server.CPU()
	if err != nil {
		return counted{}, err
	}

	var (
		began   atomic.Int64 // when counting began, after start; 0 before
		calls   atomic.Int64
		start   = time.Now()
		results = make([][]time.Duration, c.number)
		warm    sync.WaitGroup
		done    sync.WaitGroup
	)
	warm.Add(c.number)
	for n := range c.number {
		done.Go(func() {
			isWarm := sync.OnceFunc(warm.Done)
			defer isWarm()
			var err error
			if results[n], err = ask(ctx, c, window, rand.New(rand.NewPCG(seed, uint64(n))), start, &began, &calls, isWarm); err != nil {
				cancel(err) // the first error is the cause
			}
		})
	}
	warm.Wait()
	time.Sleep(warmUp - time.Since(start))
	began.Store(int64(time.Since(start)))
	done.Wait()
	if err := context.Cause(ctx); err != nil {
		return counted{}, err
	}
	after, err := t.server.CPU()
	if err != nil {
		return counted{}, err
	}
	all := slices.Concat(results...)
	return counted{all, float64(len(all)*c.atOnce) / window.Seconds(), int(calls.Load()) * c.atOnce, after - before}, nil
}

// ask is one client's part in a turn.
func ask(ctx context.Context, c *clients, window time.Duration, random *rand.Rand, start time.Time, began, made *atomic.Int64, isWarm func()) (_ []time.Duration, err error) {
	call, closer, err := c.connect()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	var calls []time.Duration
	for i := 1; ; i++ {
		took, _, err := call(ctx, random)
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil { // not every client looks at it
			return nil, err
		}
		made.Add(1)
		if i == warmUpCalls {
			isWarm()
		}
		from := time.Duration(began.Load())
		if from == 0 {
			continue
		}
		if time.Since(start)-from > window {
			return calls, nil
		}
		calls = append(calls, took)
	}
}

// tally is what the turns of a target with one load come to.
type tally struct {
	target *target
	*clients
	all   []time.Duration
	p50s  []time.Duration
	rates []float64
	made  int
	cpu   time.Duration
}

func (t *tally) add(c counted) {
	if len(c.took) > 0 {
		t.p50s = append(t.p50s, interleave.Median(c.took))
	}
	t.all, t.rates = append(t.all, c.took...), append(t.rates, c.rate)
	t.made += c.all
	t.cpu += c.cpu
}

// result is the tally as it is reported.
func (t *tally) result(model string, l load) (report.Serving, error) {
	if len(t.all) == 0 {
		return report.Serving{}, fmt.Errorf("no call with %d rows and %d outstanding ended within the window of any turn", l.rows, l.outstanding)
	}
	slices.Sort(t.rates)
	quantile := func(q float64) float64 { // between the two nearest turns, as there are few
		at := q * float64(len(t.rates)-1)
		below := int(at)
		above := min(below+1, len(t.rates)-1)
		return (t.rates[below] + (at-float64(below))*(t.rates[above]-t.rates[below])) * float64(l.rows)
	}
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	return report.Serving{
		Target: t.target.server.Name, Protocol: t.target.protocol, Transport: t.target.transport(), Model: model, Outstanding: l.outstanding, Rows: l.rows,
		P50US: us(interleave.Median(t.p50s)), P99US: us(interleave.Quantile(t.all, 0.99)), RowsPerS: quantile(0.5),
		Quartiles: []float64{quantile(0.25), quantile(0.75)}, Calls: len(t.all), CPUUS: us(t.cpu) / float64(t.made),
	}, nil
}

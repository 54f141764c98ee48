// Package versus is what the benchmarks of protocols have in common: picketd and
// an empty server on sockets, and clients that take turns between the two, all at
// once, so that neither server ever works while the other is measured.
package versus

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
)

const (
	warmUpCalls = 200  // per client and target, not counted
	callsEach   = 4000 // per client and target, unless a Comparison says otherwise
	measureTime = 30 * time.Second
	// A server that has ended would be waited for without end.
	patience = time.Minute
)

// Call makes one call and says how long it took, and how large the answer was.
type Call func(ctx context.Context, random *rand.Rand) (took time.Duration, answer int, err error)

// Timed makes one timed call out of a client's three steps.
func Timed(connect func() (protocols.Client, error)) func() (Call, io.Closer, error) {
	return func() (Call, io.Closer, error) {
		c, err := connect()
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context, random *rand.Rand) (time.Duration, int, error) {
			c.Prepare(random)
			start := time.Now()
			err := c.Do(ctx)
			took := time.Since(start)
			if err != nil {
				return 0, 0, err
			}
			size, err := c.Check()
			return took, size, err
		}, c, nil
	}
}

// Target is a server that is measured.
type Target struct {
	Name string
	// Connect gives a caller of its own to each client.
	Connect func() (Call, io.Closer, error)
}

// Comparison is what is measured of targets.
type Comparison struct {
	Protocol string
	Load     Load
	Targets  []Target
	// Turn is how many calls each client makes to one target before all change over;
	// 0 is 1 where there is one client, else 40.
	Turn int
	// Calls is how many calls each client makes to each target; 0 is 4,000. It makes fewer where they take longer than Time, for all
	// targets together; 0 is half a minute.
	Calls int
	Time  time.Duration
	// Each, if it is not nil, is told of each turn: the target, how long its calls took, and how long all of them together.
	Each func(target int, calls []time.Duration, took time.Duration)
}

// client is one caller with a connection of its own to each target.
type client struct {
	call   []Call // by target, as the others
	random *rand.Rand
	took   [][]time.Duration
	answer []int // size of the last answer
	err    error
}

// calls makes n calls, one after the other, to target i.
func (c *client) calls(ctx context.Context, i, n int) {
	for range n {
		took, answer, err := c.call[i](ctx, c.random)
		if err != nil {
			c.err = err
			return
		}
		c.took[i] = append(c.took[i], took)
		c.answer[i] = answer
	}
}

// Measure has the load's Outstanding clients call one target after the other, in
// random order, again and again: call by call where there is one, else a few dozen
// calls each before all change over together. The results are in the order of the
// targets.
func (m Comparison) Measure(ctx context.Context) ([]report.Serving, error) {
	long := m.Time
	if long == 0 {
		long = measureTime
	}
	ctx, cancel := context.WithTimeout(ctx, long+patience)
	defer cancel()
	clients := make([]client, m.Load.Outstanding)
	for n := range clients {
		clients[n] = client{
			call: make([]Call, len(m.Targets)), random: rand.New(rand.NewPCG(1, uint64(n))), took: make([][]time.Duration, len(m.Targets)), answer: make([]int, len(m.Targets)),
		}
		for i, target := range m.Targets {
			call, closer, err := target.Connect()
			if err != nil {
				return nil, fmt.Errorf("connecting to %s: %w", target.Name, err)
			}
			defer closer.Close()
			clients[n].call[i] = call
		}
	}
	// turn has every client make n calls to target i and says how long that took.
	turn := func(i, n int) (time.Duration, error) {
		start := time.Now()
		var wg sync.WaitGroup
		for k := range clients {
			wg.Go(func() { clients[k].calls(ctx, i, n) })
		}
		wg.Wait()
		took := time.Since(start)
		for k := range clients {
			if clients[k].err != nil {
				return 0, clients[k].err
			}
		}
		return took, nil
	}

	for i := range m.Targets {
		if _, err := turn(i, warmUpCalls); err != nil {
			return nil, err
		}
		for n := range clients {
			clients[n].took[i] = nil
		}
	}
	// An answer of another size would be another message to encode and to send.
	for i, size := range clients[0].answer {
		if first := clients[0].answer[0]; size != first {
			return nil, fmt.Errorf("%s answers with messages of %d bytes, %s of %d", m.Targets[0].Name, first, m.Targets[i].Name, size)
		}
	}
	callsATurn := m.Turn
	if callsATurn == 0 && m.Load.Outstanding > 1 {
		callsATurn = 40
	}
	callsATurn = max(callsATurn, 1)
	random := rand.New(rand.NewPCG(1, 2))
	busy := make([]time.Duration, len(m.Targets))
	deadline := time.Now().Add(long)
	callsInAll := m.Calls
	if callsInAll == 0 {
		callsInAll = callsEach
	}
	for calls := 0; calls < callsInAll && time.Now().Before(deadline); calls += callsATurn {
		for _, i := range random.Perm(len(m.Targets)) {
			took, err := turn(i, callsATurn)
			if err != nil {
				return nil, err
			}
			busy[i] += took
			if m.Each != nil {
				var latest []time.Duration
				for n := range clients {
					all := clients[n].took[i]
					latest = append(latest, all[len(all)-callsATurn:]...)
				}
				m.Each(i, latest, took)
			}
		}
	}

	var results []report.Serving
	for i, target := range m.Targets {
		var all []time.Duration
		for n := range clients {
			all = append(all, clients[n].took[i]...)
		}
		us := func(q float64) float64 { return float64(interleave.Quantile(all, q).Nanoseconds()) / 1e3 }
		results = append(results, report.Serving{
			Target: target.Name, Protocol: m.Protocol, Model: m.Load.Model.Name, Outstanding: m.Load.Outstanding, Rows: m.Load.Rows, P50US: us(0.5), P99US: us(0.99),
			RowsPerS: float64(len(all)*m.Load.Rows) / busy[i].Seconds(),
		})
	}
	return results, nil
}

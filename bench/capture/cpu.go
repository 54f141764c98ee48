package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/versus"
)

// cost is the processors' time of a daemon, in the program and in the kernel, which other work on the machine changes far less than
// it changes how long things take.
type cost struct {
	Captured string  `json:"captured"`
	Window   int     `json:"window"` // requests sent at once
	Requests int     `json:"requests"`
	CPUNS    float64 `json:"cpu_ns_a_request"`
	// Extra is what is more than without capturing, for each record that was captured.
	Extra float64 `json:"cpu_ns_a_record"`
}

// settle is how long a daemon is given to write down what it has captured, which is more than capture.flush_after.
const settle = 1200 * time.Millisecond

// measureCPU has one client ask each daemon the same number of times, in turns, and looks at what that took of the processors.
func measureCPU(ctx context.Context, ask protocols.Ask, sockets map[string]string, daemons map[string]*versus.Process) ([]cost, error) {
	var all []cost
	for _, load := range []struct{ window, requests int }{{1, 100_000}, {128, 4_000_000}} {
		const rounds = 5
		took := map[string]time.Duration{}
		for range rounds {
			for _, name := range captures {
				one := ask
				one.Address = sockets[name]
				spent, err := spend(ctx, one, daemons[name], load.window, load.requests/rounds)
				if err != nil {
					return nil, fmt.Errorf("asking a daemon that captures %s: %w", name, err)
				}
				took[name] += spent
			}
		}
		off := 0.0
		for i, name := range captures {
			c := cost{Captured: name, Window: load.window, Requests: load.requests, CPUNS: float64(took[name]) / float64(load.requests)}
			if i == 0 {
				off = c.CPUNS
			} else if captured := fractions[name]; captured > 0 {
				c.Extra = (c.CPUNS - off) / captured
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// spend asks so many times, window requests at once.
func spend(ctx context.Context, ask protocols.Ask, daemon *versus.Process, window, requests int) (time.Duration, error) {
	call, closer, err := versus.Timed(ask.Lane(window))()
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	random := rand.New(rand.NewPCG(1, 1))
	before, err := daemon.CPU()
	if err != nil {
		return 0, err
	}
	for range requests / window {
		if _, _, err := call(ctx, random); err != nil {
			return 0, err
		}
	}
	time.Sleep(settle)
	after, err := daemon.CPU()
	return after - before, err
}

// Package fixedcost serves models over the lane that cost the same whatever they
// are given, but for a little more with each row: what micro-batching is for, and a
// capacity that is known beforehand. The engine and the server are picketd's; the
// model waits as one for a device does: it sleeps, and looks for the end in the last
// moment, so that a run takes as long as it should.
package fixedcost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
)

// Cost is how long a run takes.
type Cost struct {
	Run, Row time.Duration
}

// oversleep is how much later than asked a sleeper without slack wakes, at most as a rule.
const oversleep = 60 * time.Microsecond

// Of is how long a run of so many rows takes.
func (c Cost) Of(rows int) time.Duration { return c.Run + time.Duration(rows)*c.Row }

// Capacity is how many rows a second one instance answers that always runs so many.
func (c Cost) Capacity(rows int) float64 { return float64(rows) / c.Of(rows).Seconds() }

// Columns is how many values of FP32 a row has.
const Columns = enginetest.Columns

// Serve serves the models by name, one instance of each, on a socket of type
// SOCK_SEQPACKET until ctx ends.
func Serve(ctx context.Context, socket string, cost Cost, models map[string]engine.ModelOptions) (err error) {
	dir, err := os.MkdirTemp("", "picket-fixed-cost-*")
	if err != nil {
		return fmt.Errorf("making a folder for an artifact: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	eng, err := engine.New(engine.Options{
		Host: hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true}), Source: enginetest.Source{Dir: dir},
		Backends: []engine.Backend{enginetest.New(enginetest.Script{OnRun: func(rows int) error {
			end := time.Now().Add(cost.Of(rows))
			// Devices interrupt when they are done. The kernel lets a sleeper wait for others whose time
			// is near, 50 us as a rule, unless its thread, which is the instance's own, has no slack.
			_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // where it fails, the run ends later
			// Not time.Sleep, which wakes at whole milliseconds.
			rest := unix.NsecToTimespec(max(int64(time.Until(end)-oversleep), 0))
			_ = unix.Nanosleep(&rest, nil) // woken early it goes on below
			for time.Now().Before(end) {
				continue
			}
			return nil
		}})},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, eng.Close(context.WithoutCancel(ctx))) }()
	for name, o := range models {
		o.Instances = 1
		if _, err := eng.Load(ctx, name, dir, o); err != nil {
			return err
		}
	}
	server, err := lane.New(lane.Options{Engine: eng})
	if err != nil {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(l, local.Access{})
}

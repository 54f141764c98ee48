//go:build cgo && linux

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
)

// mostRingP50 is what is promised of one row in a ring, times the ping-pong.
const mostRingP50 = 1.5

// pingPongFile is where the empty server answers calls of native.PingPong.
func pingPongFile(socket string) string { return socket + ".pingpong" }

// measureRing compares requests of the Go client in a ring with two processes that
// only wake each other.
func measureRing(ctx context.Context, m models.Model, sockets [2]string, out *report.Report) ([]report.Serving, error) {
	data, err := testrows.New(m.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	ask := protocols.Ask{Address: sockets[1], Model: m.Name, Rows: &protocols.Rows{Data: data}}
	var results []report.Serving
	// Sides that are asked again and again may find it worth their while not to sleep;
	// those that are asked once in a while do not.
	for _, load := range []struct{ rows, turn int }{{1, busyTurn}, {64, busyTurn}, {1, 1}} {
		ask.Count = load.rows
		measured, err := versus.Comparison{
			Protocol: "ring", Load: versus.Load{Model: m, Rows: load.rows, Outstanding: 1}, Turn: load.turn, Calls: callsOf(load.turn),
			Targets: []versus.Target{
				{Name: "futex ping-pong", Connect: pingPong(load.rows, sockets[0])},
				{Name: "picketd", Connect: versus.Timed(ask.Ring)},
			},
		}.Measure(ctx)
		if err != nil {
			return nil, err
		}
		floor, ours := measured[0], measured[1]
		name := fmt.Sprintf("p50 in a ring to a futex ping-pong, %d rows a request, one after the other (ping-pong %.1f us)", load.rows, floor.P50US)
		switch {
		case load.turn == 1:
			for i := range measured {
				measured[i].Protocol = "ring, now and then"
			}
			out.Tell(fmt.Sprintf("p50 in a ring to a futex ping-pong, %d rows a request, now and then (ping-pong %.1f us)", load.rows, floor.P50US), ours.P50US/floor.P50US, "ratio")
		case load.rows == 1:
			out.Promise(name, ours.P50US/floor.P50US, "ratio", mostRingP50)
		default:
			out.Tell(name, ours.P50US/floor.P50US, "ratio")
		}
		results = append(results, measured...)
	}
	return results, nil
}

func pingPong(rows int, socket string) func() (versus.Call, io.Closer, error) {
	return func() (versus.Call, io.Closer, error) {
		p, err := native.OpenPingPong(pingPongFile(socket))
		return func(context.Context, *rand.Rand) (time.Duration, int, error) {
			return p.Call(), 4 * rows, nil // as if it had said so much
		}, io.NopCloser(nil), err
	}
}

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
	"github.com/picket-ml/picket/bench/versus"
)

// mostRingP50 is what is promised of one row in a ring, times the ping-pong.
const mostRingP50 = 1.5

// pingPongFile is where the empty server answers calls of native.PingPong.
func pingPongFile(socket string) string { return socket + ".pingpong" }

// measureRing compares requests of the Go client in a ring with two processes that
// only wake each other.
func measureRing(ctx context.Context, m models.Model, sockets [2]string, out *report.Report) ([]report.Serving, error) {
	data, err := models.Rows(m.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	ask := protocols.Ask{Address: sockets[1], Model: m.Name, Rows: &protocols.Rows{Data: data}}
	var results []report.Serving
	for _, rows := range []int{1, 64} {
		ask.Count = rows
		measured, err := versus.Comparison{
			Protocol: "ring", Load: versus.Load{Model: m, Rows: rows, Outstanding: 1},
			Targets: [2]versus.Target{
				{Name: "futex ping-pong", Connect: pingPong(rows, sockets[0])},
				{Name: "picketd", Connect: ask.Ring},
			},
		}.Measure(ctx)
		if err != nil {
			return nil, err
		}
		results = append(results, measured...)
		floor, ours := measured[0], measured[1]
		name := fmt.Sprintf("p50 in a ring to a futex ping-pong, %d rows a request, 1 outstanding (ping-pong %.1f us)", rows, floor.P50US)
		if rows == 1 {
			out.Promise(name, ours.P50US/floor.P50US, "ratio", mostRingP50)
		} else {
			out.Tell(name, ours.P50US/floor.P50US, "ratio")
		}
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

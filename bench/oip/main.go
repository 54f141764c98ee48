// Command oip measures predictions over oip.sock against an empty grpc-go
// server: the same messages of the same sizes, a handler that returns a ready
// answer. Both are processes of their own on Unix sockets, and the clients take
// turns between them, all at once, so that neither server ever works while the
// other is measured. JSON goes to standard output.
//
// A client makes its next call when the last was answered (a closed loop): a
// server that stalls is asked less while it does, so the 99th percentiles leave out
// most of the waiting that callers with a schedule of their own would see (this is
// known as coordinated omission), and the rows per second are those of so many
// callers and no capacity. What is compared is what the two servers cost the same
// caller. The clients share the cores with the server, as local clients do.
package main

import (
	"context"
	"fmt"
	"net"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
)

func main() {
	versus.Benchmark{Protocol: "oip", Models: versus.DemoAndLarge, Empty: serveEmpty, Measure: measure}.Main()
}

func measure(ctx context.Context, served []models.Model, sockets [2]string, out *report.Report) ([]report.Serving, error) {
	large := served[1]
	var results []report.Serving
	for _, load := range versus.Loads(served) {
		measured, err := compare(ctx, load, sockets)
		if err != nil {
			return nil, fmt.Errorf("measuring model %s: %w", load.Model.Name, err)
		}
		results = append(results, measured...)
		name := fmt.Sprintf("rows/s of an empty server to those over oip.sock, %s, %d rows, %d outstanding (empty %.0f/s)", load.Model.Name, load.Rows, load.Outstanding, measured[0].RowsPerS)
		ratio := measured[0].RowsPerS / measured[1].RowsPerS
		if load.Model == large && load.Rows == 1 {
			out.Promise(name, ratio, "ratio", 1/0.85)
		} else {
			out.Tell(name, ratio, "ratio")
		}
	}
	return results, nil
}

func serveEmpty(ctx context.Context, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	return protocols.ServeEmptyOIP(ctx, listener)
}

// compare measures one load on the two sockets.
func compare(ctx context.Context, load versus.Load, sockets [2]string) ([]report.Serving, error) {
	data, err := testrows.New(load.Model.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	version, err := protocols.Version(ctx, sockets[1], load.Model.Name)
	if err != nil {
		return nil, err
	}
	ask := protocols.Ask{Model: load.Model.Name, Version: version, Rows: &protocols.Rows{Data: data}, Count: load.Rows}
	empty, picketd := ask, ask
	empty.Address, picketd.Address = sockets[0], sockets[1]
	return versus.Comparison{
		Protocol: "oip", Load: load,
		Targets: []versus.Target{
			{Name: "empty grpc-go server", Connect: versus.Timed(empty.OIP)},
			{Name: "picketd", Connect: versus.Timed(picketd.OIP)},
		},
	}.Measure(ctx)
}

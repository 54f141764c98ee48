//go:build cgo && linux

//go:debug updatemaxprocs=0

// Command lane measures predictions over lane.sock against an empty server in Go
// of the same framing: it reads what there is, answers every frame with zeros, and
// writes all answers at once. Both are processes of their own, the clients take
// turns between them, and they share the cores with the server, as local clients
// do. JSON goes to standard output.
//
// With one request outstanding a client waits for each answer. Pipelined, two
// clients send a window of requests each with one write and wait for all answers:
// then p50_us and p99_us are those of a window. See bench/versus for what a
// closed loop leaves out. The model is its trainer's file, run by whichever backend
// the daemon finds the fastest.
//
// A ring in shared memory is compared with two processes in C that only wake each
// other, which is all that such a call could cost whose sides sleep: where the system
// puts both, on one processor, and on one each. The model alone, asked in this process
// in the same turns, tells what is left to the ring. There the runtimes are not told that
// they have fewer processors: that is how they find themselves where the system puts
// both on one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/picket-ml/picket/bench/empty"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/lanewire"
)

func main() {
	only := flag.String("only", "", "measure only this: socket or ring")
	_ = os.Setenv("GODEBUG", "updatemaxprocs=0") // of picketd, as of this program; it never fails
	measure := func(ctx context.Context, served []models.Model, sockets [2]string, out *report.Report) (results []report.Serving, err error) {
		if *only != "ring" {
			results, err = measureSocket(ctx, served[0], sockets, out)
		}
		if err != nil || *only == "socket" {
			return results, err
		}
		inRing, err := measureRing(ctx, served[0], sockets, out)
		return append(results, inRing...), err
	}
	versus.Benchmark{Protocol: "lane", Models: trainersFile, Empty: serveEmpty, Measure: measure}.Main()
}

// What is promised on 2 cores that the clients share.
const (
	mostP50, mostP99     = 1.3, 2.0   // times the empty server's
	leastRows, leastOf64 = 800e3, 2e6 // rows per second, one and 64 a request
)

// busyTurn is how many calls each client makes to one side before all change over: so many that it is a busy server which is
// measured, and not one that has just been woken, or one of whose clients has nothing left to ask. Servers that are asked now and
// then have turns of one call.
const busyTurn = 200

// callsOf is how many calls each client makes to each side in all.
func callsOf(turn int) int {
	if turn == 1 {
		return 4000
	}
	return 50 * turn
}

// trainersFile is the usual model as its trainer wrote it.
func trainersFile(ctx context.Context) ([]models.Model, error) {
	spec := models.Specs()[0]
	folder, err := spec.Folder(ctx)
	return []models.Model{{Name: spec.Name, Dir: folder, Features: spec.Features}}, err
}

func measureSocket(ctx context.Context, m models.Model, sockets [2]string, out *report.Report) ([]report.Serving, error) {
	var results []report.Serving
	for _, load := range []struct{ clients, window, rows, turn int }{
		{1, 1, 1, busyTurn}, {1, 1, 1, 1}, {1, 1, 64, busyTurn}, {2, 8, 1, busyTurn}, {2, 256, 1, busyTurn}, {4, 8, 64, busyTurn},
	} {
		measured, err := compare(ctx, m, load.clients, load.window, load.rows, load.turn, sockets)
		if err != nil {
			return nil, err
		}
		results = append(results, measured...)
		empty, ours := measured[0], measured[1]
		what := fmt.Sprintf("%d rows a request, %d outstanding", load.rows, load.clients*load.window)
		if load.turn == 1 {
			what += ", now and then"
		}
		p50, p99 := ours.P50US/empty.P50US, ours.P99US/empty.P99US
		switch {
		case load.window == 1 && load.rows == 1 && load.turn > 1:
			out.Promise(fmt.Sprintf("p50 over lane.sock to an empty server, %s (empty %.1f us)", what, empty.P50US), p50, "ratio", mostP50)
			out.Promise(fmt.Sprintf("p99 over lane.sock to an empty server, %s (empty %.1f us)", what, empty.P99US), p99, "ratio", mostP99)
		case load.window == 256:
			out.Reach(fmt.Sprintf("rows/s over lane.sock to %.0f, %s (empty %.0f)", leastRows, what, empty.RowsPerS), ours.RowsPerS/leastRows, 1)
		case load.window > 1 && load.rows == 64:
			out.Reach(fmt.Sprintf("rows/s over lane.sock to %.0f, %s (empty %.0f)", leastOf64, what, empty.RowsPerS), ours.RowsPerS/leastOf64, 1)
		default:
			out.Tell(fmt.Sprintf("p50 over lane.sock to an empty server, %s (empty %.1f us)", what, empty.P50US), p50, "ratio")
		}
	}
	return results, nil
}

// compare measures the two sockets with so many clients, of which each sends window
// requests at once, turn times before the other socket has its turn.
func compare(ctx context.Context, m models.Model, clients, window, rows, turn int, sockets [2]string) ([]report.Serving, error) {
	data, err := testrows.New(m.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	ask := protocols.Ask{Model: m.Name, Rows: &protocols.Rows{Data: data}, Count: rows}
	empty, picketd := ask, ask
	empty.Address, picketd.Address = sockets[0], sockets[1]
	measured, err := versus.Comparison{
		Protocol: "lane", Load: versus.Load{Model: m, Rows: window * rows, Outstanding: clients}, Turn: turn, Calls: callsOf(turn),
		Targets: []versus.Target{
			{Name: "empty server", Connect: versus.Timed(empty.Lane(window))},
			{Name: "picketd", Connect: versus.Timed(picketd.Lane(window))},
		},
	}.Measure(ctx)
	for i := range measured {
		measured[i].Outstanding, measured[i].Rows = clients*window, rows
		if turn == 1 {
			measured[i].Protocol += ", now and then"
		}
	}
	return measured, err
}

// serveEmpty answers every frame with as many zeros as a model with one output
// would give numbers.
func serveEmpty(ctx context.Context, socket string) error {
	p, err := native.OpenPingPong(pingPongFile(socket))
	if err != nil {
		return err
	}
	go p.Serve() // as long as the process lives
	zeros := make([]byte, lanewire.MaxMessage)
	return empty.Serve(ctx, socket, func(h *lanewire.Header) (lanewire.Header, []byte, bool) {
		return lanewire.Header{Kind: h.Kind + 1, ID: h.ID, Handle: h.Handle, Rows: h.Rows}, zeros[:4*h.Rows], true
	})
}

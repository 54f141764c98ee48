//go:build cgo && linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/hw"
)

// mostRingP50 is what is promised of one row in a ring, times the ping-pong.
const mostRingP50 = 1.5

// pingPongFile is where the empty server answers calls of native.PingPong.
func pingPongFile(socket string) string { return socket + ".pingpong" }

// placement is on which processors the two sides of a call run. A wake-up on one's own processor and one of a processor that has
// to be roused first differ by more than what is measured, and where the system puts two processes changes while they run.
type placement struct {
	name             string
	clients, servers []int
}

// placements are where both sides may run: as the system has it, on one processor, and, if there are two, on one each.
func placements() ([]placement, error) {
	all, err := hw.ThreadCPUs(0)
	if err != nil {
		return nil, err
	}
	found := []placement{{"where the system puts them", all, all}, {"on one processor", all[:1], all[:1]}}
	if len(all) > 1 {
		found = append(found, placement{"on a processor each", all[:1], all[1:2]})
	}
	return found, nil
}

// take puts this process, which has the clients, and the servers there.
func (p placement) take(servers []int) error {
	err := hw.BindProcess(os.Getpid(), p.clients)
	for _, pid := range servers {
		err = errors.Join(err, hw.BindProcess(pid, p.servers))
	}
	return err
}

// measureRing compares requests of the Go client in a ring with two processes that
// only wake each other, wherever both may run.
func measureRing(ctx context.Context, m models.Model, sockets [2]string, out *report.Report) (results []report.Serving, err error) {
	data, err := testrows.New(m.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	ask := protocols.Ask{Address: sockets[1], Model: m.Name, Rows: &protocols.Rows{Data: data}}
	served := target.Served{Model: &target.Model{ModelInfo: report.ModelInfo{Name: m.Name}, Dir: m.Dir, Rows: ask.Rows}}
	inProcess, err := alone(ctx, served)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, inProcess.Close()) }()
	all, err := placements()
	if err != nil {
		return nil, err
	}
	servers := make([]int, len(sockets))
	for i, socket := range sockets {
		if servers[i], err = serverOf(m.Name, socket); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, all[0].take(servers)) }()
	for _, at := range all {
		if err := at.take(servers); err != nil {
			return nil, err
		}
		// Sides that are asked again and again may find it worth their while not to sleep;
		// those that are asked once in a while do not.
		for _, load := range []struct{ rows, turn int }{{1, busyTurn}, {64, busyTurn}, {1, 1}} {
			ask.Count = load.rows
			measured, err := versus.Comparison{
				Protocol: "ring, " + at.name, Load: versus.Load{Model: m, Rows: load.rows, Outstanding: 1}, Turn: load.turn, Calls: callsOf(load.turn),
				Targets: []versus.Target{
					{Name: "futex ping-pong", Connect: pingPong(load.rows, sockets[0])},
					{Name: "picketd", Connect: versus.Timed(ask.Ring)},
					{Name: "the model in this process", Connect: versus.Timed(func() (protocols.Client, error) { return inProcess.Targets[0].Connect(served, load.rows) })},
				},
			}.Measure(ctx)
			if err != nil {
				return nil, err
			}
			floor, ours, model := measured[0], measured[1], measured[2]
			name := fmt.Sprintf("p50 in a ring to a futex ping-pong, both %s, %d rows a request (ping-pong %.1f us)", at.name, load.rows, floor.P50US)
			switch {
			case load.turn == 1:
				for i := range measured {
					measured[i].Protocol += ", now and then"
				}
				out.Tell(name+", now and then", ours.P50US/floor.P50US, "ratio")
			case load.rows == 1:
				out.Promise(name, ours.P50US/floor.P50US, "ratio", mostRingP50)
				if len(at.servers) == 1 && at.servers[0] == at.clients[0] { // where none can look for the other's bytes while that runs
					out.Tell(fmt.Sprintf("the least that could be there: the ping-pong and the model in this process (%.1f us) to the ping-pong", model.P50US),
						(floor.P50US+model.P50US)/floor.P50US, "ratio")
				}
			default:
				out.Tell(name, ours.P50US/floor.P50US, "ratio")
			}
			results = append(results, measured...)
		}
	}
	return results, nil
}

// alone starts the engine in this process with the model, to tell what of a request is the model's own.
func alone(ctx context.Context, served target.Served) (*target.Group, error) {
	start := target.StartEngine("", hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true}))
	group, err := start(ctx, "", []target.Served{served}, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	if len(group.LeftOut) > 0 {
		return nil, errors.Join(fmt.Errorf("loading the model in this process: %s", group.LeftOut[0].Why), group.Close())
	}
	return group, nil
}

// serverOf is the number of the process behind a socket.
func serverOf(model, socket string) (pid int, err error) {
	conn, err := protocols.ConnectLane(model, socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("asking who serves %s: %w", socket, err)
	}
	var who *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { who, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("asking who serves %s: %w", socket, err)
	}
	return int(who.Pid), nil
}

func pingPong(rows int, socket string) func() (versus.Call, io.Closer, error) {
	return func() (versus.Call, io.Closer, error) {
		p, err := native.OpenPingPong(pingPongFile(socket))
		return func(context.Context, *rand.Rand) (time.Duration, int, error) {
			return p.Call(), 4 * rows, nil // as if it had said so much
		}, io.NopCloser(nil), err
	}
}

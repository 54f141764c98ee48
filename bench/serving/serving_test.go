package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// TestMain is the empty server where a test starts this program as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == emptyServer {
		program.Main("serving", func(ctx context.Context) error { return serveEmpty(ctx, os.Args[2:]) })
	}
	testkit.VerifyNoLeaks(m, testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}

func testRowsOf(t *testing.T) *protocols.Rows {
	t.Helper()
	data, err := tensor.New("data", tensor.FP32, tensor.MustShape(200, 30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(data.Buffer.Release)
	copy(data.Bytes(), tensor.AsBytes(testkit.RowsNoMissing(200, 30)))
	return (&protocols.Rows{Data: data}).WithText()
}

// TestTurns measures an empty server over every protocol it has; it is stopped between turns, and ended at the end.
func TestTurns(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	free, err := process.Ports(2)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overGRPC, overHTTP := filepath.Join(dir, "grpc"), filepath.Join(dir, "http")
	s, err := process.Launch(filepath.Join(dir, "server"), empty, self, emptyServer, overGRPC, free[0], overHTTP, free[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.End)
	rows := testRowsOf(t)
	at := func(address string) protocols.Ask {
		return protocols.Ask{Address: address, Model: "m", Version: "1", Rows: rows}
	}
	targets := []*target{
		{s, grpcOIP, at(overGRPC), each(protocols.Ask.OIP)}, {s, grpcOIP, at(free[0]), each(protocols.Ask.OIP)},
		{s, httpJSON, at(overHTTP), emptyHTTP}, {s, httpJSON, at(free[1]), emptyHTTP},
	}
	for _, target := range targets {
		if err := s.Answers(t.Context(), target.once); err != nil {
			t.Fatal(err)
		}
		if err := s.Rest(); err != nil {
			t.Fatal(err)
		}
		checkStopped(t, s)
		for _, l := range []load{{1, 1}, {64, 4}} {
			var c counted
			window := 50 * time.Millisecond
			for ; len(c.took) == 0 && window < time.Minute; window *= 4 { // in which a busy machine may answer nothing
				var err error
				if c, err = target.turn(t.Context(), target.of(l), window, 1); err != nil {
					t.Fatalf("%s over %s, %v: %v", target.protocol, target.transport(), l, err)
				}
			}
			window /= 4
			if len(c.took) == 0 || c.all < len(c.took) || c.rate != float64(len(c.took))/window.Seconds() || c.cpu < 0 {
				t.Errorf("%s over %s, %v: %d calls count, %d were made, %v a second, %v of the processor", target.protocol, target.transport(), l, len(c.took), c.all, c.rate, c.cpu)
			}
			checkStopped(t, s)
		}
		if err := s.Wake(); err != nil {
			t.Fatal(err)
		}
	}
	if memory, err := s.Memory(); err != nil || memory <= 0 {
		t.Errorf("the server has %v MB, %v", memory, err)
	}

	// Answers that are not the trainer's end a turn.
	wrong := *rows
	wrong.Answers = make([]float32, 200)
	for i := range wrong.Answers {
		wrong.Answers[i] = 0.9
	}
	target := *targets[0]
	target.ask.Rows = &wrong
	if _, err := target.turn(t.Context(), target.of(load{1, 2}), 50*time.Millisecond, 1); err == nil || !strings.Contains(err.Error(), "the reference has 0.9") {
		t.Errorf("wrong answers end a turn with %v", err)
	}

	s.End()
	if err := s.Wake(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("a server that has ended is woken with %v", err)
	}
}

// checkStopped fails the test unless all processes of the server are stopped.
func checkStopped(t *testing.T, s *process.Server) {
	t.Helper()
	all, err := s.PIDs()
	if err != nil || len(all) == 0 {
		t.Fatalf("the server has %d processes, %v", len(all), err)
	}
	for _, p := range all {
		// A thread may still be on its way out of the kernel.
		if !eventually(func() bool { return state(p) == "T" }) {
			t.Errorf("process %d of a server at rest is in state %q", p, state(p))
		}
	}
}

// state is what Linux says of a process: "T" where it is stopped.
func state(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "gone"
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[0]
}

func eventually(is func() bool) bool {
	for range 1000 {
		if is() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// TestServersThatDoNotStart says why, in the words of their logs.
func TestServersThatDoNotStart(t *testing.T) {
	s, err := process.Launch(t.TempDir(), "a server", "/bin/sh", "-c", "echo nothing works; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.End)
	err = s.Answers(t.Context(), func(context.Context) error { return os.ErrNotExist })
	if err == nil || !strings.Contains(err.Error(), "nothing works") {
		t.Errorf("it does not start with %v", err)
	}
}

// TestTally takes medians of turns, and the 99th percentile of all calls.
func TestTally(t *testing.T) {
	y := &tally{target: &target{server: &process.Server{Name: "s"}, protocol: "p", ask: protocols.Ask{Address: "/s"}}}
	ms := func(n ...int) (d []time.Duration) {
		for _, n := range n {
			d = append(d, time.Duration(n)*time.Millisecond)
		}
		return d
	}
	y.add(counted{took: ms(1, 2, 3), rate: 10, all: 4, cpu: 8 * time.Millisecond})
	y.add(counted{took: ms(5, 6, 100), rate: 20, all: 4, cpu: 8 * time.Millisecond})
	y.add(counted{took: ms(3, 3, 3), rate: 40, all: 8, cpu: 16 * time.Millisecond})
	y.add(counted{rate: 0}) // a call took longer than the window
	r, err := y.result("m", load{rows: 2, outstanding: 5})
	if err != nil {
		t.Fatal(err)
	}
	if r.P50US != 3000 || r.P99US != 100_000 || r.RowsPerS != 2*15 || r.Quartiles[0] != 2*7.5 || r.Quartiles[1] != 2*25 || r.Calls != 9 || r.CPUUS != 2000 {
		t.Errorf("the turns come to %+v", r)
	}
	if _, err := (&tally{target: y.target}).result("m", load{1, 1}); err == nil {
		t.Error("no calls come to a result")
	}
}

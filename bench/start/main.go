// Command start measures how long picketd takes from being started until it says that
// it is ready, and until it has answered a first request of each protocol, without
// models. Each is measured in starts of its own, in random order, so that clients do not
// slow each other down; beside them, how long the program takes that only prints its
// version, which is the system's share. JSON goes to standard output.
//
// Clients wait for the socket as any client would that is started together with the
// daemon: they try to connect every 100 us. The client that is made beforehand is not
// counted, its connection is.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/lane"
)

func main() {
	program.Main("bench-start", run)
}

const (
	startsEach = 100
	// patience is for a daemon that does not start.
	patience = 30 * time.Second
	// mostMS is what is promised, at the 99th percentile.
	mostMS = 100
)

// measured is one way to tell that the daemon works.
type measured struct {
	Target string  `json:"target"`
	Starts int     `json:"starts"`
	P50MS  float64 `json:"p50_ms"`
	P99MS  float64 `json:"p99_ms"`
	MaxMS  float64 `json:"max_ms"`

	// wait returns when the daemon with sockets in dir works; nil for the program that
	// prints its version.
	wait func(ctx context.Context, dir string, ready net.Conn) error
	took []time.Duration
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	picketd := filepath.Join(dir, "picketd")
	build := exec.CommandContext(ctx, "go", "build", "-o", picketd, "./cmd/picketd")
	build.Dir, build.Stderr = testkit.ModuleRoot(), os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building picketd: %w", err)
	}

	out := report.New()
	all := []*measured{
		{Target: "picketd --version"},
		{Target: "READY=1", wait: waitForReady},
		{Target: "agent.sock", wait: waitForAgent},
		{Target: "oip.sock, gRPC", wait: waitForOIP},
		{Target: "oip.sock, HTTP", wait: waitForHTTP},
		{Target: "lane.sock", wait: waitForLane},
	}
	var order []*measured
	for _, m := range all {
		order = append(order, slices.Repeat([]*measured{m}, startsEach)...)
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	// The first start reads the program from disk.
	for i, m := range slices.Concat(all, order) {
		took, err := m.start(ctx, picketd, dir)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", m.Target, err)
		}
		if i >= len(all) {
			m.took = append(m.took, took)
		}
	}
	for _, m := range all {
		slices.Sort(m.took)
		at := func(q float64) float64 {
			return m.took[int(q*float64(len(m.took)-1)+0.5)].Seconds() * 1e3
		}
		m.Starts, m.P50MS, m.P99MS, m.MaxMS = len(m.took), at(0.5), at(0.99), at(1)
		name := "p99 from the start to a first answer on " + m.Target
		switch {
		case m.wait == nil:
			out.Tell("p99 of "+m.Target, m.P99MS, "ms")
			continue
		case m.Target == "READY=1":
			name = "p99 from the start to READY=1"
		}
		out.Promise(fmt.Sprintf("%s, without models (p50 %.1f ms)", name, m.P50MS), m.P99MS, "ms", mostMS)
	}
	out.Results = all
	return out.Write()
}

// start starts the daemon once, says how long it took to work, and ends it.
func (m *measured) start(ctx context.Context, picketd, dir string) (_ time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if m.wait == nil {
		start := time.Now()
		err := exec.CommandContext(ctx, picketd, "--version").Run()
		return time.Since(start), err
	}
	notify := filepath.Join(dir, "notify")
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ready.Close(), os.Remove(notify)) }()
	var log strings.Builder
	daemon := exec.CommandContext(ctx, picketd, "--sockets", dir, "--unsigned")
	daemon.Env = []string{"PICKET_IMDS=off", "NOTIFY_SOCKET=" + notify}
	daemon.Stderr = &log
	start := time.Now()
	if err := daemon.Start(); err != nil {
		return 0, err
	}
	failed := m.wait(ctx, dir, ready)
	took := time.Since(start)
	if err := errors.Join(failed, daemon.Process.Signal(syscall.SIGTERM), daemon.Wait()); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, log.String())
	}
	return took, nil
}

func waitForReady(ctx context.Context, _ string, ready net.Conn) error {
	deadline, _ := ctx.Deadline()
	if err := ready.SetReadDeadline(deadline); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	n, err := ready.Read(buffer)
	if err == nil && !strings.HasPrefix(string(buffer[:n]), "READY=1") {
		err = fmt.Errorf("the daemon said %q first", buffer[:n])
	}
	return err
}

// dial connects as soon as somebody listens at path.
func dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func dialGRPC(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///picketd", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, path) }))
}

func waitForAgent(ctx context.Context, dir string, _ net.Conn) error {
	conn, err := dialGRPC(filepath.Join(dir, "agent.sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = agentapi.NewAgentClient(conn).ListModels(ctx, &agentapi.ListModelsRequest{})
	return err
}

func waitForOIP(ctx context.Context, dir string, _ net.Conn) error {
	conn, err := dialGRPC(filepath.Join(dir, "oip.sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := oipapi.NewGRPCInferenceServiceClient(conn).ServerReady(ctx, &oipapi.ServerReadyRequest{})
	if err == nil && !answer.GetReady() {
		err = errors.New("the server says it is not ready")
	}
	return err
}

func waitForHTTP(ctx context.Context, dir string, _ net.Conn) error {
	client := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dial(ctx, filepath.Join(dir, "oip.sock"))
	}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picketd/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := client.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s, %w", answer.Status, err)
	}
	return nil
}

// waitForLane waits for the greeting: without models there is nothing else to answer.
func waitForLane(ctx context.Context, dir string, _ net.Conn) error {
	for {
		client, err := lane.Dial(ctx, filepath.Join(dir, "lane.sock"), lane.Options{})
		if err == nil {
			return client.Close()
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

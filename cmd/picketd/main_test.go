package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/testkit"
)

// binary is the daemon as TestMain built it.
var binary string

func TestMain(m *testing.M) {
	if dir := os.Getenv(callTask); dir != "" {
		callEverything(dir)
		return
	}
	os.Exit(buildAndTest(m))
}

func buildAndTest(m *testing.M) int {
	dir, err := os.MkdirTemp("", "picketd-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "picketd")
		var out []byte
		if out, err = exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-X main.version=test-build", "-o", binary, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building picketd:", err)
		return 1
	}
	// Tests that are run under nohup would start daemons that ignore it, and wait in vain for them to reload. What a
	// process listens for is not ignored by those that it starts.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	return m.Run()
}

// process is a running daemon.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr testkit.Output
	exited         chan error
	path           string // of its agent socket
	conn           *grpc.ClientConn
	agentapi.AgentClient
	control controlapi.ControlClient
}

// launch starts the daemon and does not wait for it to be ready. env is added
// to a minimal environment.
func launch(t *testing.T, path string, env []string, args ...string) *process {
	t.Helper()
	p := &process{path: path, exited: make(chan error, 1)}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Env = append([]string{"PICKET_IMDS=off", "PATH=" + os.Getenv("PATH")}, env...)
	p.run(t)
	return p
}

// run starts the command, collects what it writes, unless its standard error goes elsewhere, and at the end of the
// test kills it if it still runs. It is gone then, and writes no more into the folders of the test.
func (p *process) run(t *testing.T) {
	t.Helper()
	p.cmd.Stdout = &p.stdout
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = &p.stderr
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // of no effect on one that has ended
		p.wait(t)
		if p.conn != nil {
			p.conn.Close()
		}
	})
}

// startDaemon launches a daemon on dir/agent.sock and waits until it is ready.
func startDaemon(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, append([]string{"--sockets", dir}, args...)...)
	p.connect(t)
	return p
}

// connect waits until the daemon answers.
func (p *process) connect(t *testing.T) {
	t.Helper()
	p.waitForLog(t, "msg=ready")
	conn, err := grpc.NewClient("unix://"+p.path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(sentMarker{}), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(80<<20)))
	if err != nil {
		t.Fatal(err)
	}
	p.conn = conn
	p.AgentClient, p.control = agentapi.NewAgentClient(conn), controlapi.NewControlClient(conn)
	p.checkAnswers(t)
}

// checkAnswers fails the test unless the daemon answers.
func (p *process) checkAnswers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.ListModels(ctx, &agentapi.ListModelsRequest{}); err != nil {
		t.Fatalf("the daemon does not answer: %v\n%s", err, &p.stderr)
	}
}

func (p *process) waitForLog(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(p.stderr.String(), text); time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-p.exited:
			p.exited <- err
			t.Fatalf("the daemon ended (%v) and did not log %q:\n%s", err, text, &p.stderr)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the daemon did not log %q:\n%s", text, &p.stderr)
		}
	}
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait is the exit code; -1 after a signal that killed it.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case err := <-p.exited:
		p.exited <- err
		if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		t.Fatalf("the daemon does not end:\n%s", &p.stderr)
		return 0
	}
}

// stop ends the daemon as its service manager would and checks that it ended
// well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != exitDone {
		t.Errorf("the daemon ended with %d after SIGTERM:\n%s", code, &p.stderr)
	}
	if p.stdout.String() != "" {
		t.Errorf("the daemon wrote to standard output: %q", &p.stdout)
	}
}

// checkRefused wants the daemon to have ended with that code and one line that
// says what.
func (p *process) checkRefused(t *testing.T, code int, says string) {
	t.Helper()
	if got := p.wait(t); got != code || !strings.Contains(p.stderr.String(), says) {
		t.Errorf("ended with %d, want %d, and a line that says %q:\n%s", got, code, says, &p.stderr)
	}
	if strings.Contains(p.stderr.String(), "goroutine ") || p.stdout.String() != "" {
		t.Errorf("wrote more than a sentence:\n%s%s", &p.stdout, &p.stderr)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

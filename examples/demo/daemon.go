package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

const (
	readyTimeout = 10 * time.Second
	// stopTimeout is a little more than the daemon's own grace for calls under way.
	stopTimeout = 15 * time.Second
)

// daemon is a running picketd and a connection to it.
type daemon struct {
	process     *exec.Cmd
	socket, log string
	conn        *grpc.ClientConn
	ended       chan struct{} // closed when the process has ended
}

// startDaemon starts picketd with its socket and its log in dir.
func startDaemon(path, dir string) (*daemon, error) {
	d := &daemon{socket: filepath.Join(dir, "agent.sock"), log: filepath.Join(dir, "picketd.log"), ended: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the daemon's log: %w", err)
	}
	defer log.Close()
	// Unsigned: the model was compiled a moment ago and is nobody else's.
	d.process = exec.Command(path, "--sockets", dir, "--unsigned")
	d.process.Stderr = log
	d.process.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C is for the demo, which then stops the daemon
		Pdeathsig: syscall.SIGTERM, // and should the demo be killed, the daemon does not stay behind
	}
	d.conn, err = grpc.NewClient("unix://"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("preparing to connect to %s: %w", d.socket, err)
	}
	if err := d.process.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the daemon: %w; `make build` makes it", err), d.conn.Close())
	}
	go func() {
		_ = d.process.Wait() // how it ended is in its log
		close(d.ended)
	}()
	return d, nil
}

// wait returns when the daemon answers.
func (d *daemon) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if _, err := agentapi.NewAgentClient(d.conn).ListModels(ctx, &agentapi.ListModelsRequest{}); err == nil {
			return nil
		}
		d.conn.ResetConnectBackoff() // the socket appears within milliseconds
		select {
		case <-d.ended:
			return errors.New("starting the daemon: it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("starting the daemon: it does not answer on %s after %v", d.socket, readyTimeout)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// lastLines is the end of the daemon's log, for messages.
func (d *daemon) lastLines() string {
	const most = 8
	text, err := os.ReadFile(d.log)
	if err != nil {
		return fmt.Sprintf("(the daemon's log cannot be read: %v)", err)
	}
	if len(text) == 0 {
		return "the daemon's log is empty"
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return "the daemon's log ends with:\n  " + strings.Join(lines[max(0, len(lines)-most):], "\n  ")
}

// stop ends the daemon, gracefully if it will.
func (d *daemon) stop(out *screen) error {
	closeErr := d.conn.Close()
	select {
	case <-d.ended:
		return closeErr
	default:
	}
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(closeErr, fmt.Errorf("stopping the daemon: %w", err))
	}
	select {
	case <-d.ended:
		out.line("picketd has stopped; its folder is removed.")
		return closeErr
	case <-time.After(stopTimeout):
		_ = d.process.Process.Kill() // it was asked in vain
		<-d.ended
		return errors.Join(closeErr, fmt.Errorf("stopping the daemon: it went on for %v and was killed", stopTimeout))
	}
}

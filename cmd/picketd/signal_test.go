package main

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A daemon started with nohup survives its terminal.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	dir := t.TempDir()
	p := &process{path: filepath.Join(dir, "agent.sock"), exited: make(chan error, 1)}
	p.cmd = exec.Command("sh", "-c", `trap "" HUP INT; exec "$0" --sockets "$1"`, binary, dir)
	p.cmd.Env = []string{"PICKET_IMDS=off", "PATH=/usr/bin:/bin"}
	p.run(t)
	p.connect(t)
	p.signal(t, syscall.SIGHUP)
	p.signal(t, syscall.SIGINT)
	p.checkAnswers(t)
	p.stop(t)
}

// Without it, the end of the terminal is a wish to stop.
func TestHangUpStops(t *testing.T) {
	p := startDaemon(t, t.TempDir())
	p.signal(t, syscall.SIGHUP)
	if code := p.wait(t); code != exitDone {
		t.Errorf("the daemon ended with %d after SIGHUP:\n%s", code, &p.stderr)
	}
}

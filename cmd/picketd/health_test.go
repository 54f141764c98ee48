package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkHealth runs the command as a container's runtime does, and wants the exit code
// and the word or the line that says why.
func checkHealth(t *testing.T, dir string, code int, says string) {
	t.Helper()
	p := launch(t, "", nil, "health", "--sockets", dir)
	if got := p.wait(t); got != code || !strings.Contains(p.stdout.String()+p.stderr.String(), says) {
		t.Errorf("picketd health ends with %d, want %d and %q:\n%s%s", got, code, says, &p.stdout, &p.stderr)
	}
}

func TestHealth(t *testing.T) {
	dir := t.TempDir()
	checkHealth(t, dir, exitFailed, "there is neither control.sock nor oip.sock in "+dir)
	p := startDaemon(t, dir)
	checkHealth(t, dir, exitDone, "ready")
	p.stop(t)
	checkHealth(t, dir, exitFailed, "there is neither control.sock nor oip.sock in "+dir)
}

// Where the operator's socket is turned off, the one for everybody is asked.
func TestHealthWithoutControl(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "picketd.yaml")
	if err := os.WriteFile(config, []byte("sockets: {control: {paths: []}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startDaemon(t, dir, "--config", config)
	checkHealth(t, dir, exitDone, "ready")
	p.stop(t)
}

// A daemon that has its sockets and accepts nobody yet, as one that loads its models,
// is not healthy, and the question has an end.
func TestHealthOfADaemonThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as the time that runs out
	if err := health(ctx, dir, io.Discard); err == nil || strings.Contains(err.Error(), "oip.sock") {
		t.Errorf("a daemon that does not answer: %v, want an error of control.sock alone", err)
	}
	checkHealth(t, dir, exitFailed, "does not answer within")
}

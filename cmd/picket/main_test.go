package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

// asPicket in the environment makes the test binary be picket itself.
const asPicket = "PICKET_TEST_AS_PICKET"

// built is the folder of the picketd that buildPicketd made.
var built string

func TestMain(m *testing.M) {
	if os.Getenv(asPicket) != "" {
		main()
	}
	dir, err := os.MkdirTemp("", "picket-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// buildPicketd builds the daemon once, for the tests that need one.
var buildPicketd = sync.OnceValues(func() (string, error) {
	path := filepath.Join(built, "picketd")
	command := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/picketd")
	command.Dir = testkit.ModuleRoot()
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building picketd: %w\n%s", err, output)
	}
	return path, nil
})

// result is how picket ended.
type result struct {
	stdout, stderr string
	code           int
}

// process is picket with these arguments, to be started; it is killed with ctx.
func process(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, os.Args[0], args...)
	// The race detector otherwise sleeps for a second at the end of every process.
	command.Env = append(os.Environ(), asPicket+"=1", "PICKET_IMDS=off", "GORACE=atexit_sleep_ms=0")
	return command
}

// picket runs the command with stdin.
func picket(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return picketIn(t, "", stdin, args...)
}

// picketIn is picket in a working directory.
func picketIn(t *testing.T, dir, stdin string, args ...string) result {
	t.Helper()
	command := process(t.Context(), args...)
	command.Dir = dir
	command.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running picket %v: %v", args, err)
	}
	return result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// ok runs picket and fails the test unless it exits 0 with nothing on standard error.
func ok(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	r := picket(t, stdin, args...)
	if r.code != exitDone || r.stderr != "" {
		t.Fatalf("picket %v: exit %d\n%s", args, r.code, r.stderr)
	}
	return r.stdout
}

// fails checks the exit code, and that standard error is one sentence with all the parts.
func fails(t *testing.T, r result, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit %d, want %d: %s", r.code, code, r.stderr)
	}
	if !strings.HasPrefix(r.stderr, "picket: ") || strings.Count(r.stderr, "\n") != 1 || !strings.HasSuffix(r.stderr, "\n") {
		t.Errorf("not one sentence: %q", r.stderr)
	}
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("%q does not say %q", r.stderr, part)
		}
	}
}

// startDaemon starts picketd and returns its socket directory and a function that stops it gracefully.
func startDaemon(t *testing.T, args ...string) (sockets string, stop func()) {
	t.Helper()
	path, err := buildPicketd()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err = os.MkdirTemp("", "picket") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // read only after the process has ended
	command := exec.Command(path, append([]string{"--sockets", sockets}, args...)...)
	command.Env = append(os.Environ(), "PICKET_IMDS=off")
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := errors.Join(command.Process.Signal(syscall.SIGTERM), command.Wait()); err != nil {
			t.Errorf("stopping picketd: %v\n%s", err, log.String())
		}
		if t.Failed() {
			t.Logf("picketd said:\n%s", log.String())
		}
	}
	t.Cleanup(func() {
		stop()
		os.RemoveAll(sockets)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for picket(t, "", "list", "--sockets", sockets).code != exitDone {
		select {
		case <-ctx.Done():
			t.Fatal("picketd does not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return sockets, stop
}

// writeFile makes a file and the folders above it, and gives its path.
func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

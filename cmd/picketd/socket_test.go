package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A daemon that runs out of file descriptors says what to raise, and serves on.
func TestNoFileDescriptorsLeft(t *testing.T) {
	const limit = 32
	dir := t.TempDir()
	p := &process{path: filepath.Join(dir, "agent.sock"), exited: make(chan error, 1)}
	p.cmd = exec.Command("sh", "-c", `ulimit -n "$2" && exec "$0" --sockets "$1"`, binary, dir, strconv.Itoa(limit))
	p.cmd.Env = []string{"PICKET_IMDS=off", "PATH=/usr/bin:/bin"}
	p.run(t)
	p.connect(t)
	var clients []net.Conn
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for range limit {
		c, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	p.waitForLog(t, "raise LimitNOFILE")
	if n := strings.Count(p.stderr.String(), "raise LimitNOFILE"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, &p.stderr)
	}
	p.checkAnswers(t)
	for _, c := range clients {
		c.Close()
	}
	p.stop(t)
}

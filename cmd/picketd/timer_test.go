//go:build cgo && linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the daemon waits for all the while is none of Go's timers, of which each would give the thread that waits for connections a
// timeout, and so each request a clock of the kernel's to set up: the spool's next look, the next metrics, the watchdog.
func TestNoTimerIsPending(t *testing.T) {
	dir, p := watched(t, "capture: {enabled: true}\nmodel_defaults: {capture: {rate: 1}}\ncloudwatch: {emf: DIR/emf, fleet: f, device: d, period: 1h}\n", "WATCHDOG_USEC=60000000", "NOTIFY_SOCKET=/dev/null")
	if err := p.conn.Close(); err != nil { // gRPC has a timer for each
		t.Fatal(err)
	}
	p.conn = nil
	pid := p.cmd.Process.Pid
	quiet := 0
	wait(t, func() bool {
		switch waiting, timeouts := waits(t, pid); {
		case timeouts > 0:
			quiet = 0 // one that lasts a moment, as at a start
		case waiting > 0:
			quiet++
		}
		return quiet == 100
	})
	// It is the spool that looks meanwhile, once in a second, and for as long as twenty of them.
	if all, err := filepath.Glob(filepath.Join(dir, "state", "capture", "*.seg")); err != nil || len(all) == 0 {
		t.Errorf("nothing was captured: %v", err)
	}
}

// waits counts the threads of a process that wait for connections, and those that do it with a timeout.
func waits(t *testing.T, pid int) (waiting, timeouts int) {
	t.Helper()
	time.Sleep(5 * time.Millisecond)
	calls, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		text, err := os.ReadFile(call)
		if err != nil {
			continue // the thread has just ended
		}
		// The number and six arguments, of which the fourth is milliseconds, or -1 for ever.
		f := strings.Fields(string(text))
		if len(f) < 5 || f[0] != strconv.Itoa(unix.SYS_EPOLL_PWAIT) {
			continue
		}
		waiting++
		if most, err := strconv.ParseUint(f[4], 0, 64); err != nil || int32(most) >= 0 {
			timeouts++
		}
	}
	return waiting, timeouts
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
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

// Without it, it is the wish for another look at the configuration; the daemon serves on.
func TestHangUpReloads(t *testing.T) {
	p := startDaemon(t, t.TempDir())
	p.signal(t, syscall.SIGHUP)
	p.waitForLog(t, "the configuration was read again")
	p.checkAnswers(t)
	p.stop(t)
}

// Signals that come together are one wish to stop; a later one is the wish to
// do so at once.
func TestSignalsThatComeTogether(t *testing.T) {
	const term, hup = syscall.SIGTERM, syscall.SIGHUP
	type sent struct {
		sig  os.Signal
		wait time.Duration // before it
	}
	for _, test := range []struct {
		name string
		sent []sent
		want []os.Signal
	}{
		{"one", []sent{{term, 0}}, []os.Signal{term}},
		{"two at once", []sent{{term, 0}, {hup, 0}}, []os.Signal{term}},
		{"many within the time", []sent{{term, 0}, {hup, time.Millisecond}, {hup, sameWish - 2*time.Millisecond}}, []os.Signal{term}},
		{"a later one", []sent{{term, 0}, {hup, sameWish}}, []os.Signal{term, hup}},
		{"a later one after two at once", []sent{{term, 0}, {term, 0}, {hup, sameWish}, {term, time.Hour}}, []os.Signal{term, hup}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals, wishes := make(chan os.Signal), make(chan os.Signal, 2)
				go func() {
					defer close(wishes)
					forwardWishes(signals, nil, wishes)
				}()
				for _, one := range test.sent {
					time.Sleep(one.wait)
					signals <- one.sig
				}
				close(signals)
				var got []os.Signal
				for sig := range wishes {
					got = append(got, sig)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("the daemon is told of %v, want %v", got, test.want)
				}
			})
		})
	}
}

//go:build cgo

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with picket top on it.
type terminal struct {
	t             *testing.T
	master, slave *os.File
	before        unix.Termios
	command       *exec.Cmd

	mu    sync.Mutex
	shown strings.Builder
	more  chan struct{} // a token when shown has grown
	ended chan struct{}
}

// newTerminal is one of 100 columns and 20 lines.
func newTerminal(t *testing.T, environment []string, args ...string) *terminal {
	t.Helper()
	x := &terminal{t: t, more: make(chan struct{}, 1), ended: make(chan struct{})}
	var err error
	if x.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	fd := int(x.master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if x.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	x.resize(100, 20)
	x.before = *terminalState(x.slave)
	x.command = process(t.Context(), append([]string{"top"}, args...)...)
	x.command.Env = append(append(x.command.Env, "TERM=xterm"), environment...)
	x.command.Stdin, x.command.Stdout, x.command.Stderr = x.slave, x.slave, x.slave
	x.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(x.ended)
		part := make([]byte, 4096)
		for {
			n, err := x.master.Read(part)
			if err != nil {
				return
			}
			x.mu.Lock()
			x.shown.Write(part[:n])
			x.mu.Unlock()
			select {
			case x.more <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		x.slave.Close() // the reader ends with the last one that has it open
		<-x.ended
		x.master.Close()
	})
	return x
}

func (x *terminal) resize(columns, lines uint16) {
	x.t.Helper()
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// text is all that was written to the terminal.
func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shown.String()
}

// until waits for a whole frame, begun after from bytes, of which is is true, and returns how much was written by then.
func (x *terminal) until(from int, what string, is func(frame string) bool) int {
	x.t.Helper()
	for {
		text := x.text()
		frames := strings.Split(text[min(from, len(text)):], toTop)
		for _, frame := range frames[1:] {
			if whole, _, ended := strings.Cut(frame, clearBelow); ended && is(whole) {
				return len(text)
			}
		}
		select {
		case <-x.more:
		case <-time.After(time.Minute):
			x.t.Fatalf("the terminal never shows %s: %q", what, x.text())
		}
	}
}

// end waits for the command and checks that the terminal is as it was.
func (x *terminal) end() {
	x.t.Helper()
	if err := x.command.Wait(); err != nil {
		x.t.Errorf("%v: %q", err, x.text())
	}
	if after := terminalState(x.slave); *after != x.before {
		x.t.Errorf("the terminal was %+v, is %+v", x.before, *after)
	}
	x.slave.Close() // so that all that was written is read
	<-x.ended
	if text := x.text(); !strings.HasSuffix(text, firstScreen) || strings.Count(text, otherScreen) != strings.Count(text, firstScreen) {
		x.t.Errorf("the first screen is not back: %q", text)
	}
}

func TestTopOnATerminal(t *testing.T) {
	sockets, input, _ := serveSums(t)
	args := []string{"--interval", "100ms", "--sockets", sockets}
	x := newTerminal(t, []string{"NO_COLOR="}, args...)
	at := x.until(0, "the model", func(f string) bool {
		return strings.Contains(f, "\nsums ") && strings.Contains(f, "q ends") && strings.Contains(f, colours[titleLine]+"MODEL")
	})
	ok(t, input, "predict", "sums", "--sockets", sockets)
	at = x.until(at, "how long it took", func(f string) bool {
		return strings.Contains(f, "ns/") || strings.Contains(f, "µs/") || strings.Contains(f, "ms/")
	})

	// Columns go that have no room, and lines.
	x.resize(40, 20)
	at = x.until(at, "a narrow table", func(f string) bool {
		for line := range strings.SplitSeq(f, "\n") {
			if text := strings.NewReplacer(clearLine, "", plainText, "", colours[titleLine], "", "\r", "").Replace(line); len([]rune(text)) > 40 {
				return false
			}
		}
		return strings.Contains(f, "sums ") && !strings.Contains(f, "BACKEND")
	})
	x.resize(100, 5)
	at = x.until(at, "a line that says what has no room", func(f string) bool {
		return strings.Count(f, "\n") == 4 && strings.Contains(f, "1 of 1 models have no room")
	})
	x.resize(100, 20)

	// Ctrl-Z gives the terminal back, and what goes on takes it again.
	x.press("\x1a")
	var status unix.WaitStatus
	if _, err := unix.Wait4(x.command.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("Ctrl-Z does not stop it: %v %v", status, err)
	}
	if stopped := terminalState(x.slave); *stopped != x.before {
		t.Errorf("while it is stopped the terminal is %+v", *stopped)
	}
	if err := x.command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	x.until(at, "the model again", func(f string) bool { return strings.Contains(f, "\x1b[1mMODEL") && strings.Contains(f, "BACKEND") })
	x.press("xq")
	x.end()
}

func TestTopWaitsForADaemonThatGoes(t *testing.T) {
	sockets, stop := startDaemon(t)
	x := newTerminal(t, []string{"NO_COLOR=1"}, "--interval", "100ms", "--sockets", sockets)
	at := x.until(0, "no model", func(f string) bool { return strings.Contains(f, "no model is loaded") })
	stop()
	x.until(at, "that the daemon is away", func(f string) bool {
		return strings.Contains(f, "as of ") && strings.Contains(f, "reading the metrics")
	})
	x.press("\x03")
	x.end()
	if text := x.text(); strings.Contains(text, "\x1b[3") || strings.Contains(text, plainText) {
		t.Errorf("colours in spite of NO_COLOR: %q", text)
	}
}

// A terminal that can only be written to line by line is one.
func TestTopOnADumbTerminal(t *testing.T) {
	sockets, _ := startDaemon(t)
	x := newTerminal(t, []string{"TERM=dumb"}, "--interval", "50ms", "--sockets", sockets)
	for strings.Count(x.text(), "no model is loaded") < 2 {
		select {
		case <-x.more:
		case <-time.After(time.Minute):
			t.Fatalf("%q", x.text())
		}
	}
	x.press("\x03")
	if err := x.command.Wait(); err != nil || strings.ContainsRune(x.text(), '\x1b') {
		t.Errorf("%v: %q", err, x.text())
	}
}

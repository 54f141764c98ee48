//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binaries is the folder of what TestMain built.
var binaries string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "picket-demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir, ".", "../../cmd/picket", "../../cmd/picketd")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the demo and what it shows: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// command is the demo with its temporary files in a folder of its own, which it returns.
func command(t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	temporary, err := os.MkdirTemp("", "pd") // short, because the socket's path is limited to 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temporary) })
	c := exec.Command(filepath.Join(binaries, "demo"), append([]string{
		"-picket", filepath.Join(binaries, "picket"), "-picketd", filepath.Join(binaries, "picketd"), "-data", "."}, args...)...)
	c.Env = append(os.Environ(), "TMPDIR="+temporary, "PICKET_IMDS=off")
	return c, temporary
}

// clean fails the test when the demo left something behind.
func clean(t *testing.T, temporary string) {
	t.Helper()
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemoFromStartToEnd(t *testing.T) {
	c, temporary := command(t, "-once")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	clean(t, temporary)
	for _, want := range []string{
		"300 transactions, one request each",
		"270 approve, 10 ask for a 2nd factor (from 0.30), 20 deny (from 0.80)",
		"scores are XGBoost's own",
		"Deny\n", "Ask for 2nd factor\n", "Approve\n",
		"export PICKET_SOCKETS=" + temporary,
		"picketd has stopped",
	} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
	measured := regexp.MustCompile(`p50 (\d+) us, p90 (\d+) us, p99 (\d+) us`).FindStringSubmatch(stdout.String())
	if len(measured) != 4 {
		t.Fatalf("no latencies in\n%s", stdout.String())
	}
	previous := 1
	for _, text := range measured[1:] {
		us, err := strconv.Atoi(text)
		if err != nil || us < previous {
			t.Errorf("latencies %v do not rise from 1 us (%v)", measured[1:], err)
		}
		previous = us
	}
	for line := range strings.Lines(stdout.String()) {
		// A temporary folder's name may be of any length.
		if len(strings.TrimRight(line, "\n")) > 80 && !strings.Contains(line, temporary) && !strings.Contains(line, binaries) {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
	if strings.Contains(stdout.String(), "\x1b") {
		t.Error("colours without a terminal")
	}
}

func TestDemoKeepsTheDaemonUntilInterrupted(t *testing.T) {
	c, temporary := command(t)
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(2*time.Minute, func() { _ = c.Process.Kill() }) // ends the loop below
	defer giveUp.Stop()
	text, asked := "", false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		text += lines.Text() + "\n"
		if !strings.Contains(lines.Text(), "Ctrl-C") {
			continue
		}
		asked = true
		sockets := regexp.MustCompile(`PICKET_SOCKETS=(\S+)`).FindStringSubmatch(text)
		if len(sockets) != 2 {
			t.Fatalf("no socket directory in\n%s", text)
		}
		list := exec.Command(filepath.Join(binaries, "picket"), "list", "--sockets", sockets[1])
		if output, err := list.CombinedOutput(); err != nil || !strings.Contains(string(output), modelName) {
			t.Errorf("the daemon that was left running says %s (%v)", output, err)
		}
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
	}
	if err := c.Wait(); err != nil || !asked {
		t.Errorf("%v\n%s%s", err, text, stderr.String())
	}
	clean(t, temporary)
	pid := regexp.MustCompile(`process (\d+)`).FindStringSubmatch(text)
	if len(pid) != 2 {
		t.Fatalf("no process in\n%s", text)
	}
	if n, err := strconv.Atoi(pid[1]); err != nil || syscall.Kill(n, 0) == nil {
		t.Errorf("picketd %s still runs (%v)", pid[1], err)
	}
}

func TestDemoSaysWhatFailed(t *testing.T) {
	empty := t.TempDir()
	wrong := t.TempDir()
	for _, name := range []string{"fraud.ubj", featuresFile, transactionsFile, expectedFile} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == expectedFile { // the first score is another
			lines := bytes.SplitN(text, []byte("\n"), 3)
			text = bytes.Join([][]byte{lines[0], []byte("0.5,0"), lines[2]}, []byte("\n"))
		}
		if err := os.WriteFile(filepath.Join(wrong, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"no data":          {[]string{"-data", empty}, []string{"demo: reading the transactions", "-data"}},
		"no picket":        {[]string{"-picket", filepath.Join(empty, "picket")}, []string{"make build"}},
		"no daemon":        {[]string{"-picketd", filepath.Join(empty, "picketd")}, []string{"demo: starting the daemon", "make build"}},
		"daemon that ends": {[]string{"-picketd", "/bin/false"}, []string{"demo: starting the daemon: it ended at once", "log is empty"}},
		"other answers":    {[]string{"-data", wrong}, []string{"demo: checking the scores: transaction 1", "XGBoost says 0.5", "the daemon's log ends with"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, temporary := command(t, append(test.args, "-once")...)
			output, err := c.CombinedOutput()
			if c.ProcessState.ExitCode() != 1 {
				t.Errorf("%v\n%s", err, output)
			}
			for _, want := range test.want {
				if !strings.Contains(string(output), want) {
					t.Errorf("no %q in\n%s", want, output)
				}
			}
			clean(t, temporary)
		})
	}
}

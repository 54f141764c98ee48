//go:build cgo && linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/capture/residency"
)

// leaving writes the configuration of a daemon that captures all requests of the fixture, whose policy for it is rule.
func leaving(t *testing.T, dir, rule string) string {
	t.Helper()
	file := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf(`
sockets: {dir: %[1]s}
state_dir: %[1]s/state
models: [{name: fraud, path: %[2]s}]
model_defaults: {capture: {rate: 1}}
unsigned: true
capture:
  enabled: true
  segment_age: 100ms
  destination: {directory: %[1]s/to}
  upload: {compression: none}
  format: {device: test}
  residency:
    destinations: [{directory: %[1]s/to}]
    models: [%[3]s]
`, dir, fraudModel(t), rule)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What is predicted is captured and leaves as the policy says, through a restart too, each record once, and is in the audit log.
func TestCapturedRequestsLeave(t *testing.T) {
	dir := t.TempDir()
	file := leaving(t, dir, "{model: fraud, samples: true, features: [{feature: '0', action: allow}], outputs: allow, ids: allow}")
	const each = 10
	lines := func() int { return linesIn(t, filepath.Join(dir, "to")) }
	for life := 1; life <= 2; life++ {
		p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
		p.connect(t)
		for range each {
			p.checkScores(t, "fraud", 1)
		}
		for deadline := time.Now().Add(time.Minute); lines() < each*life; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d records have left of %d:\n%s", lines(), each*life, &p.stderr)
			}
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "oip.sock"))
		}}}
		// The file is there a moment before it is counted.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			response, err := client.Get("http://picket/metrics")
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			page := readFile(t, "../../docs/metrics.md")
			for _, name := range regexp.MustCompile(`(?m)^picket_upload_\w+`).FindAllString(string(text), -1) {
				if !strings.Contains(page, "`"+name+"`") {
					t.Fatalf("docs/metrics.md does not explain %s", name)
				}
			}
			if strings.Contains(string(text), fmt.Sprintf("picket_upload_records_total %d\n", each)) && strings.Contains(string(text), "picket_upload_state{state=") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the metrics do not say what left:\n%s", text)
			}
		}
		p.stop(t)
	}
	if n := lines(); n != 2*each {
		t.Errorf("%d records have left of %d", n, 2*each)
	}
	count := 0
	if _, err := residency.VerifyAudit(filepath.Join(dir, "state", "audit"), func(e residency.Entry) error {
		if e.Event == residency.Stored {
			count += e.Count
		}
		return nil
	}); err != nil || count != 2*each {
		t.Errorf("the audit log has %d records: %v", count, err)
	}
}

// linesIn counts the captured requests below a destination, which have one column.
func linesIn(t *testing.T, to string) (n int) {
	t.Helper()
	err := filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.Contains(path, ".picket-partial") {
			return err
		}
		content, err := os.ReadFile(path)
		for line := range bytes.Lines(content) {
			if !bytes.Contains(line, []byte(`"endpointInput":{"observedContentType":"text/csv","mode":"INPUT"`)) || bytes.Contains(line, []byte(",,")) {
				t.Errorf("%s: %s", path, line)
			}
			n++
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return n
}

// The process in which captured records are prepared gives way to all others, is replaced where it ends, by one of the same program,
// and ends with the daemon, however that ends.
func TestPreparingProcess(t *testing.T) {
	dir := t.TempDir()
	file := leaving(t, dir, "{model: fraud, samples: true, features: [{feature: '0', action: allow}], outputs: allow, ids: allow}")
	own := filepath.Join(dir, "picketd")
	copyFile(t, binary, own)
	start := func() *process {
		p := &process{path: filepath.Join(dir, "agent.sock"), exited: make(chan error, 1)}
		p.cmd = exec.Command(own, "--config", file)
		p.cmd.Env = []string{"PICKET_IMDS=off", "PATH=" + os.Getenv("PATH")}
		p.run(t)
		p.connect(t)
		return p
	}
	left := 0
	leaves := func(p *process) (preparing int) {
		p.checkScores(t, "fraud", 1)
		left++
		wait(t, func() bool { return linesIn(t, filepath.Join(dir, "to")) == left })
		children := childrenOf(t, p.cmd.Process.Pid)
		if len(children) != 1 {
			t.Fatalf("the daemon has the processes %v:\n%s", children, &p.stderr)
		}
		return children[0]
	}
	p := start()
	first := leaves(p)
	if line := strings.ReplaceAll(readFile(t, fmt.Sprintf("/proc/%d/cmdline", first)), "\x00", " "); line != own+" "+prepareObjects+" " {
		t.Errorf("the process is %q", line)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", first))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		if a, err := unix.SchedGetAttr(id, 0); err != nil || a.Nice != 19 {
			t.Errorf("a thread is scheduled as %+v: %v", a, err)
		}
	}
	if score := readFile(t, fmt.Sprintf("/proc/%d/oom_score_adj", first)); score != "1000\n" {
		t.Errorf("oom_score_adj is %q", score)
	}
	// A service manager that ends all processes of a group has it go on until the daemon has ended.
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(first, s); err != nil {
			t.Fatal(err)
		}
	}
	if again := leaves(p); again != first {
		t.Errorf("process %d was replaced by %d after a signal", first, again)
	}
	// Another program in the place of this one is for the next start.
	if err := errors.Join(os.WriteFile(own+".new", []byte("#!/bin/sh\nexit 1\n"), 0o700), os.Rename(own+".new", own)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := leaves(p)
	if second == first {
		t.Error("the process that was killed prepares")
	}
	p.stop(t)
	ended := func(pid int) func() bool {
		return func() bool { // or nobody has asked yet how
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return os.IsNotExist(err) || bytes.Contains(stat, []byte(") Z "))
		}
	}
	if !ended(second)() {
		t.Error("the process is there after the daemon")
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	copyFile(t, binary, own)
	p = start()
	third := leaves(p)
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	wait(t, ended(third))
}

// childrenOf are the processes that a process has started and that run.
func childrenOf(t *testing.T, parent int) (all []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		if fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			all = append(all, pid)
		}
	}
	return all
}

func TestPoliciesThatAreRefused(t *testing.T) {
	for rule, says := range map[string]string{
		"{model: fraud, samples: true, ids: allow, features: [{feature: amount, action: drop}]}": `capture.residency.models[0].features[0].feature: \"amount\" is unknown`,
		"{model: fraud, samples: true}":                                                          "capture.residency.key: values or ids of requests are hashed",
		"{model: fraud, samples: true, ids: allow, columns: [a, b]}":                             "columns names 2 for model fraud",
		"{model: fraud, samples: true, ids: allow, features: [{feature: '4000', action: drop}]}": "there is a rule for column 4000",
		"{model: fraud, samples: true, ids: allow, features: [{tensor: nothing, action: drop}]}": `has no tensor`,
		"{model: fraud, samples: true, ids: allow}, {model: fraud}":                              "fraud has a rule already",
	} {
		dir := t.TempDir()
		p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", leaving(t, dir, rule))
		if code := p.wait(t); code != exitUsage || !strings.Contains(p.stderr.String(), strings.ReplaceAll(says, `\"`, `"`)) && !strings.Contains(p.stderr.String(), says) {
			t.Errorf("%s: ended with %d:\n%s", rule, code, &p.stderr)
		}
	}
	dir := t.TempDir()
	file := leaving(t, dir, "")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("destinations: [{directory: "+dir+"/to}]"), []byte("destinations: []"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.checkRefused(t, exitUsage, "is not among the destinations that it allows")
}

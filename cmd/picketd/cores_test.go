//go:build cgo && linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/picket-ml/picket/internal/hw"
)

// TestCores: the daemon keeps to the CPUs of its key cores, its models to those of theirs, which need not be among them, and a new process that
// takes over has the same, as it is started with all.
func TestCores(t *testing.T) {
	all, err := hw.ThreadCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	own, models := hw.FormatCPUs(all[:1]), hw.FormatCPUs(all[len(all)-1:])
	dir := t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf("sockets: {dir: %s}\nunsigned: true\ncores: %q\nmodels:\n- {name: fraud, path: %s, cores: %q, instances: 2}\n- {name: other, path: %s}\n",
		dir, own, fraudModel(t), models, fraudModel(t))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.connect(t)
	r := startReign(t, p)
	check := func() {
		t.Helper()
		r.checkScores(t, "fraud", 100)
		r.checkScores(t, "other", 100)
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(r.pid), "task"))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				t.Fatal(err)
			}
			if cpus, err := hw.ThreadCPUs(id); err == nil { // it may have ended
				seen[hw.FormatCPUs(cpus)]++
			}
		}
		want := 2 // CPUs, and threads of the model's two instances
		if own == models {
			want = 1
		}
		if len(seen) != want || seen[own] == 0 || seen[models] < 2 || own != models && seen[models] > 2 {
			t.Errorf("threads by CPUs: %v, want some of %s and two of %s", seen, own, models)
		}
	}
	check()
	r.restart(t)
	check()
	r.stop(t)
}

// TestCoresRefused: CPUs that the process may not use are a mistake in the configuration.
func TestCoresRefused(t *testing.T) {
	for list, says := range map[string]string{"9999": "cores: 9999 is asked for, this process may use the CPUs", "1-0": "does not ascend", "two": "is not a list of CPUs"} {
		file := filepath.Join(t.TempDir(), "picketd.yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, "cores: %q\n", list), 0o600); err != nil {
			t.Fatal(err)
		}
		launch(t, "", nil, "--sockets", t.TempDir(), "--config", file).checkRefused(t, exitUsage, says)
	}
}

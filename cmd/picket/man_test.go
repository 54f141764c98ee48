package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/testkit"
)

// eachCommand calls f with every command that help lists, and with those that only who packs Picket calls.
func eachCommand(f func(*cobra.Command)) {
	var each func(*cobra.Command)
	each = func(c *cobra.Command) {
		f(c)
		for _, child := range c.Commands() {
			if child.Name() != gpuReportCommand && child.Name() != "help" {
				each(child)
			}
		}
	}
	each(newRoot(os.Getenv))
}

// Every command shows how it is used, with lines that it takes.
func TestExamples(t *testing.T) {
	names := map[string]bool{}
	eachCommand(func(c *cobra.Command) {
		if names[c.CommandPath()] {
			t.Errorf("%s is there twice", c.CommandPath())
		}
		names[c.CommandPath()] = true
		if c.HasSubCommands() {
			return
		}
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		found := 0
		for line := range strings.SplitSeq(strings.ReplaceAll(c.Example, "\\\n", " "), "\n") {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: an example is not indented: %q", c.CommandPath(), line)
			}
			for _, words := range shellCommands(line) {
				if err := takes(words, true); err != nil {
					t.Errorf("%s: its example %q is not taken: %v", c.CommandPath(), line, err)
				}
				if which, _, err := newRoot(os.Getenv).Find(words[1:]); err == nil && which.CommandPath() == c.CommandPath() {
					found++
				}
			}
		}
		if found == 0 {
			t.Errorf("%s: no example is of itself", c.CommandPath())
		}
	})
}

func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	t.Setenv("PICKET_SOCKETS", "/somewhere/else")
	ok(t, "", "man", "-o", dir)
	fails(t, picket(t, "", "man"), exitUsage, "-o DIR")
	fails(t, picket(t, "", "man", "-o", "/dev/null/x"), exitFailed, "writing the manual pages")

	want := map[string]bool{"picketd.8": true, "picketd-health.8": true, "picket-config.5": true}
	eachCommand(func(c *cobra.Command) {
		if !c.Hidden {
			want[strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = true
		}
	})
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, file := range files {
		got[filepath.Base(file)] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("pages %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}

	output, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, files...)...).CombinedOutput()
	for line := range strings.Lines(string(output)) {
		if !strings.Contains(line, "missing date") { // the same version writes the same pages
			t.Errorf("%s", line)
		}
	}
	if err != nil && len(output) == 0 {
		t.Error(err)
	}

	for page, parts := range map[string][]string{
		"picket.1":           {"picket-fleet(1)", "5 compared with a baseline", "--timeout"},
		"picket-load.1":      {"picket load fraud fraud@3", "--sockets DIR", "(default /run/picket)", "picket(1)"},
		"picket-top.1":       {"\n         REQ/S      requests that were answered, however\n"},
		"picketd.8":          {"-a, --agent-socket SOCKET", "SIGUSR2", "picketd -a /tmp/sagemaker_edge_agent_example.sock"},
		"picketd-health.8":   {"--sockets DIR", "control.sock", "picketd health --sockets /run/picket"},
		"picket-config.5":    {"max_in_flight: ", "    # Lock working memory, where", "picket-config", "/etc/picket/picketd.yaml"},
		"picket-fleet-add.1": {"--credentials FILE", "picket-fleet(1)"},
	} {
		text, err := exec.Command("mandoc", "-T", "ascii", "-O", "width=120", filepath.Join(dir, page)).Output()
		if err != nil {
			t.Fatal(page, err)
		}
		plain := overstrike(string(text))
		for _, part := range parts {
			if !strings.Contains(plain, part) {
				t.Errorf("%s lacks %q:\n%s", page, part, plain)
			}
		}
	}
	// The example's keys are all there, as the daemon reads them.
	example, err := os.ReadFile(filepath.Join(testkit.ModuleRoot(), "internal", "config", "example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("mandoc", "-T", "ascii", "-O", "width=200", filepath.Join(dir, "picket-config.5")).Output()
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Join(strings.Fields(overstrike(string(text))), " ")
	for line := range strings.SplitSeq(string(example), "\n") {
		if line = strings.Join(strings.Fields(strings.TrimPrefix(line, "#")), " "); !strings.Contains(plain, line) {
			t.Errorf("picket-config.5 lacks %q", line)
		}
	}
}

// overstrike takes out how terminals of 1970 showed bold.
func overstrike(text string) string {
	var out []byte
	for i := range len(text) {
		if text[i] == '\b' {
			out = out[:len(out)-1]
			continue
		}
		out = append(out, text[i])
	}
	return string(out)
}

//go:build cgo

package main

import (
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	for shell, marker := range map[string]string{"bash": "__start_picket", "zsh": "#compdef picket", "fish": "complete -c picket", "powershell": "Register-ArgumentCompleter"} {
		if script := ok(t, "", "completion", shell); !strings.Contains(script, marker) {
			t.Errorf("no completion for %s", shell)
		}
	}
	_, dir := compileFixture(t, trained)
	sockets, _ := startDaemon(t, "--unsigned", "--model", "sums="+dir)
	for command, want := range map[string]string{
		"predict":   "sums\n:4\n",
		"unload":    "sums\n:4\n",
		"explain":   "sums\n:4\n",
		"truth":     "sums\n:4\n",
		"load sums": ":0\n",
	} {
		r := picket(t, "", append(append([]string{"__complete"}, strings.Fields(command)...), "--sockets", sockets, "")...)
		if r.code != exitDone || r.stdout != want {
			t.Errorf("after picket %s: %q, want %q (%s)", command, r.stdout, want, r.stderr)
		}
	}
	// Without a daemon there is nothing to offer, and nothing to say.
	if r := picket(t, "", "__complete", "predict", "--sockets", t.TempDir(), ""); r.code != exitDone || r.stdout != ":4\n" {
		t.Errorf("%+v", r)
	}
	if r := picket(t, "", "__complete", "predict", "x", "--protocol", "l"); r.stdout != "agent\noip\nlane\n:4\n" && r.stdout != "lane\n:4\n" {
		t.Errorf("%+v", r)
	}
}

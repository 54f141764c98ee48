//go:build cgo

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReload(t *testing.T) {
	_, artifact := compileFixture(t, trained)
	dir := t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("unsigned: true\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("models: [{name: gone, path: /nowhere}]\n")
	sockets, _ := startDaemon(t, "--config", file)
	t.Setenv("PICKET_SOCKETS", sockets)
	if text := ok(t, "", "list"); !strings.Contains(text, "no model is loaded") || !strings.Contains(text, "gone is declared and not loaded, from /nowhere: ") || !strings.Contains(text, "nothing is there") {
		t.Error(text)
	}

	write(fmt.Sprintf("models: [{name: sums, path: %s}]\nlog: {level: debug}\nlimits: {max_tensor: 1MiB}\n", artifact))
	text := ok(t, "", "reload")
	for _, line := range []string{"sums: loaded\n", "models: changed\n", "log.level: changed\n", "limits.max_tensor: needs a restart\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q does not say %q", text, line)
		}
	}
	var listed struct {
		Models   []model
		Declared []declaredModel
	}
	if err := json.Unmarshal([]byte(ok(t, "", "list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed.Models) != 1 || len(listed.Declared) != 1 || listed.Declared[0] != (declaredModel{"sums", artifact, true, ""}) {
		t.Errorf("listed %+v", listed)
	}

	write("log: {level: loud}\nmodel: []\n")
	fails(t, picket(t, "", "reload"), exitFailed, "loud", "model", "line 2", "line 3")
	write(fmt.Sprintf("models: [{name: sums, path: %s}, {name: gone, path: /nowhere}]\n", artifact))
	r := picket(t, "", "reload", "--json")
	fails(t, r, exitFailed, "1 of its models could not be loaded")
	var out reloaded
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Models) != 1 || out.Models[0].Name != "gone" || out.Models[0].Action != "load" || !strings.Contains(out.Models[0].Error, "nothing is there") {
		t.Errorf("reload --json prints %s", r.stdout)
	}
	write(fmt.Sprintf("models: [{name: sums, path: %s}]\n", artifact))
	ok(t, "", "reload")
	if text := ok(t, "", "reload"); text != "nothing has changed\n" {
		t.Error(text)
	}
}

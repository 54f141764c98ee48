package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/config"
)

// A configuration that leaves the state directory to the daemon's unit is read by the tool as well, which systemd tells nothing.
func TestConfigurationOfADaemonUnderSystemd(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "picketd.yaml"), "capture: {enabled: true}\n")
	for environment, want := range map[string]string{"": defaultState, "/srv/state:/srv/other": "/srv/state"} {
		t.Setenv(config.EnvState, environment)
		c, err := readDaemonConfig(file, "")
		if err != nil || c.StateDir != want {
			t.Errorf("with %s=%q it keeps its state in %q, want %q: %v", config.EnvState, environment, c.StateDir, want, err)
		}
	}
	if c, err := readDaemonConfig(file, "/elsewhere"); err != nil || c.StateDir != "/elsewhere" {
		t.Errorf("with --state it is %q: %v", c.StateDir, err)
	}
	wrong := writeFile(t, filepath.Join(t.TempDir(), "picketd.yaml"), "captures: {}\n")
	for _, args := range [][]string{
		{"spool", "ls", "--config", wrong}, {"audit", "--config", wrong}, {"capture", "test", "--config", wrong}, {"package", "pull", "fraud", "--config", wrong},
		{"package", "verify", "x.tar.gz", "--trust", wrong},
	} {
		r := picket(t, "", args...)
		fails(t, r, exitUsage, wrong+`: line 1: unknown key "captures"`)
		if strings.Contains(r.stderr, "--help") {
			t.Errorf("picket %s sends to its help, which has nothing about the file: %s", strings.Join(args, " "), r.stderr)
		}
	}
}

// What root makes in the daemon's folders keeps the daemon from using them, so root is refused.
func TestFoldersOfAnotherUser(t *testing.T) {
	dir := t.TempDir()
	if err := asOwner(filepath.Join(dir, "not", "there"), "trying"); err != nil {
		t.Errorf("in a folder of one's own: %v", err)
	}
	others := "/" // root's
	if os.Geteuid() == 0 {
		others = dir
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := asOwner(filepath.Join(others, "not", "there"), "trying"); err == nil || !strings.Contains(err.Error(), others+" belongs to the user ") {
		t.Errorf("in a folder of somebody else's: %v", err)
	}
}

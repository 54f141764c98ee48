package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCodeVersion: choices of backends hold for one executable, also where no version tells it from another.
func TestCodeVersion(t *testing.T) {
	daemon, own := codeVersion(binary), codeVersion(thisExecutable)
	if daemon == own || codeVersion(binary) != daemon {
		t.Errorf("the daemon is %q, then %q, and this test is %q", daemon, codeVersion(binary), own)
	}
	for _, v := range []string{daemon, own} {
		if !strings.HasPrefix(v, version+" ") {
			t.Errorf("%q does not begin with the version %q", v, version)
		}
	}
	odd := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(odd, []byte("no executable"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{odd, odd + " that is not there"} {
		if v := codeVersion(path); v != version {
			t.Errorf("%s: %q", path, v)
		}
	}
}

package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// libdlrFetch is the one attempt per test process to fetch libdlr; its output
// goes to every test that then finds no library.
var libdlrFetch = sync.OnceValues(func() ([]byte, error) {
	script := filepath.Join(ModuleRoot(), "scripts", "fetch-libdlr.sh")
	cmd := exec.Command(script)
	cmd.Dir = ModuleRoot()
	return cmd.CombinedOutput()
})

// LibDLR returns the absolute path of the real libdlr 1.6.0, which is too large
// to be committed. When it is not on this machine yet, scripts/fetch-libdlr.sh
// brings it; when that fails too, the test fails.
func LibDLR(t testing.TB) string {
	t.Helper()
	path := filepath.Join(ModuleRoot(), ".cache", "libdlr", "1.6.0", "libdlr.so")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	output, err := libdlrFetch()
	if err != nil {
		t.Fatalf("fetching libdlr 1.6.0 (make fixtures does it by hand): %v\n%s", err, output)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("scripts/fetch-libdlr.sh succeeded but left no library: %v\n%s", err, output)
	}
	return path
}

package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// fetched is a library that is too large to be committed, and that a script puts into .cache.
type fetched struct {
	path   string // below .cache
	script string
	// fetch is the one attempt per test process; its output goes to every test that then finds no library.
	fetch func() ([]byte, error)
}

func newFetched(script string, path ...string) fetched {
	script = filepath.Join("scripts", script)
	return fetched{filepath.Join(path...), script, sync.OnceValues(func() ([]byte, error) {
		command := exec.Command(filepath.Join(ModuleRoot(), script))
		command.Dir = ModuleRoot()
		return command.CombinedOutput()
	})}
}

// absolute is the library's path. When it is not on this machine yet, the script brings it; when that fails too, the test fails.
func (f fetched) absolute(t testing.TB) string {
	t.Helper()
	path := filepath.Join(ModuleRoot(), ".cache", f.path)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	output, err := f.fetch()
	if err != nil {
		t.Fatalf("%s failed (make fixtures runs it by hand): %v\n%s", f.script, err, output)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s succeeded but left no library: %v\n%s", f.script, err, output)
	}
	return path
}

// ONNXRuntimeVersion is that of the library which scripts/fetch-onnxruntime.sh brings.
const ONNXRuntimeVersion = "1.32.0"

var (
	libdlr      = newFetched("fetch-libdlr.sh", "libdlr", "1.6.0", "libdlr.so")
	onnxRuntime = newFetched("fetch-onnxruntime.sh", "onnxruntime", ONNXRuntimeVersion, "libonnxruntime.so")
)

// LibDLR returns the absolute path of the real libdlr 1.6.0.
func LibDLR(t testing.TB) string {
	t.Helper()
	return libdlr.absolute(t)
}

// ONNXRuntime returns the absolute path of ONNX Runtime.
func ONNXRuntime(t testing.TB) string {
	t.Helper()
	return onnxRuntime.absolute(t)
}

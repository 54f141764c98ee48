package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// onnxRuntimeFetch is the one attempt per test process to fetch ONNX Runtime.
var onnxRuntimeFetch = sync.OnceValues(func() ([]byte, error) {
	cmd := exec.Command(filepath.Join(ModuleRoot(), "scripts", "fetch-onnxruntime.sh"))
	cmd.Dir = ModuleRoot()
	return cmd.CombinedOutput()
})

// ONNXRuntime returns the absolute path of ONNX Runtime 1.32.0, which is too large to be committed. When it is not on this
// machine yet, scripts/fetch-onnxruntime.sh brings it; when that fails too, the test fails.
func ONNXRuntime(t testing.TB) string {
	t.Helper()
	path := filepath.Join(ModuleRoot(), ".cache", "onnxruntime", ONNXRuntimeVersion, "libonnxruntime.so")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	output, err := onnxRuntimeFetch()
	if err != nil {
		t.Fatalf("fetching ONNX Runtime (make fixtures does it by hand): %v\n%s", err, output)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("scripts/fetch-onnxruntime.sh succeeded but left no library: %v\n%s", err, output)
	}
	return path
}

// ONNXRuntimeVersion is that of the library which scripts/fetch-onnxruntime.sh brings.
const ONNXRuntimeVersion = "1.32.0"

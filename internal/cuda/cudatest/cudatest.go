// Package cudatest makes a libcuda.so.1 without a GPU; see testdata/fake.c. What a real GPU does is for `make test-gpu`.
package cudatest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

// compiled is the library's bytes, made once in a process.
var compiled = sync.OnceValues(func() (library []byte, err error) {
	dir, err := os.MkdirTemp("", "picket-cuda")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root := testkit.ModuleRoot()
	out := filepath.Join(dir, "libcuda.so.1")
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	// ISO C, in which gcc fuses no multiplication with an addition; the kernels' source is called what NVIDIA calls it.
	command := exec.Command(cc, "-shared", "-fPIC", "-O2", "-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
		"-DKERNELS=\""+filepath.Join(root, "backends/cuda/kernel/forest.cu")+"\"", "-I"+filepath.Join(root, "backends/cuda/kernel"),
		"-o", out, "-x", "c", filepath.Join(root, "internal/cuda/cudatest/testdata/fake.c"), "-ldl", "-lpthread")
	if text, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compiling the fake driver: %w\n%s", err, text)
	}
	return os.ReadFile(out)
})

var wishes atomic.Int64

// Library is the path of a fake driver that nobody else has opened.
func Library(t testing.TB) string {
	t.Helper()
	data, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(path, data, 0o700); err != nil { //nolint:gosec // it is code
		t.Fatal(err)
	}
	return path
}

// Fail has the n-th call of that name from now on answer code; "kernel" is a kernel when it runs.
func Fail(t testing.TB, call string, n, code int) {
	t.Helper()
	// The last number tells a wish from an earlier one of the same words.
	t.Setenv("FAKE_CUDA_FAIL", fmt.Sprintf("%s:%d:%d:%d", call, n, code, wishes.Add(1)))
}

// Log has all that is put into streams written down from now on; what it returns reads it: "in 1 4096" is a copy to the device of so many
// bytes, put into stream 1; kernels have rows.
func Log(t testing.TB) func() []string {
	t.Helper()
	return testkit.LogOf(t, "FAKE_CUDA_LOG")
}

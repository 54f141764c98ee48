// Package onnxtest makes an ONNX Runtime with a CUDA provider for machines without a GPU; see testdata/fake.c.
package onnxtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

// Library is the path of the library, whose sessions on GPUs run on the processor.
func Library(t testing.TB) string {
	t.Helper()
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	out := filepath.Join(t.TempDir(), "libonnxruntime.so.1")
	command := exec.Command(cc, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-DRUNTIME=\""+testkit.ONNXRuntime(t)+"\"",
		"-o", out, filepath.Join(testkit.ModuleRoot(), "backends/onnx/onnxtest/testdata/fake.c"), "-ldl", "-lpthread")
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("compiling the stand-in: %v\n%s", err, text)
	}
	return out
}

// Fail has what is done on the GPU of that number, "run" or "open", fail with the text from now on; no text ends it.
func Fail(t testing.TB, what string, gpu, text string) {
	t.Helper()
	wish := ""
	if text != "" {
		wish = what + " " + gpu + " " + text
	}
	t.Setenv("FAKE_ORT_FAIL", wish)
}

// Log has sessions on GPUs written down from now on, with the options of their provider; what it returns reads it.
func Log(t testing.TB) func() []string {
	t.Helper()
	return testkit.LogOf(t, "FAKE_ORT_LOG")
}

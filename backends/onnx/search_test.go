//go:build cgo && linux

package onnx_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/internal/testkit"
)

// TestSearch: none is a sentence that says where it was looked for and what to do; one in a folder is found, whatever version
// its name has.
func TestSearch(t *testing.T) {
	folder := t.TempDir()
	names := []string{"libpicket-test-onnxruntime.so.1", "libpicket-test-onnxruntime.so"}
	err := onnx.Search(names, []string{folder})
	if err == nil || !strings.Contains(err.Error(), folder) || !strings.Contains(err.Error(), names[0]) || !strings.Contains(err.Error(), "backends.onnxruntime") {
		t.Fatalf("with none: %v", err)
	}
	// The newest is taken, by numbers and not by letters.
	if err := os.WriteFile(filepath.Join(folder, names[1]+".1.9.0"), []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := onnx.Search(names, []string{folder}); err == nil || !strings.Contains(err.Error(), "1.9.0") {
		t.Errorf("with one that is no library: %v", err)
	}
	if err := os.Symlink(testkit.ONNXRuntime(t), filepath.Join(folder, names[1]+".1.32.0")); err != nil {
		t.Fatal(err)
	}
	if err := onnx.Search(names, []string{t.TempDir(), folder}); err != nil {
		t.Errorf("with a sound one: %v", err)
	}
}

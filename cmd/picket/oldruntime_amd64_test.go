//go:build cgo && linux

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/internal/testkit"
)

// TestOldRuntimesReadPackages: libdlr opens a package of two variants that was unpacked with tar, signature and all.
func TestOldRuntimesReadPackages(t *testing.T) {
	_, artifact := compileFixture(t, trained)
	dir := t.TempDir()
	path, fast, folder := filepath.Join(dir, "sums-1.tar.gz"), filepath.Join(dir, "fast"), filepath.Join(dir, "unpacked")
	must(t, exitDone, "compile", testkit.Path(t, testkit.ModelNamed(t, trained).Files[0]), "-o", fast, "--target", "x86-64-v3")
	must(t, exitDone, "package", "build", artifact, "--variant", fast, "--name", "sums", "--version", "1", "-o", path)
	private, _ := keyPair(t, dir, "signer")
	must(t, exitDone, "package", "sign", path, "--key", private)
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), "tar", "-xzf", path, "-C", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, name := range []string{"sagemaker_edge_manifest", "model.sig", "compiled.so", "variants/x86-64-v3/compiled.so"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	source, err := store.New(store.Options{Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	backend := dlr.New(dlr.Options{LibraryPath: testkit.LibDLR(t)})
	e, err := engine.New(engine.Options{Host: hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true}), Source: source, Backends: []engine.Backend{backend}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	if _, err := e.Load(t.Context(), "sums", folder, engine.ModelOptions{}); err != nil {
		t.Error(err)
	}
}

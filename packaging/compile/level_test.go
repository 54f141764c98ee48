package compile_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging/compile"
)

// TestLibraryTellsItsLevel loses compiled.meta: a host that is less than what the artifact was compiled for must still
// be told so in a sentence, and not by an illegal instruction.
func TestLibraryTellsItsLevel(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("levels are a matter of x86-64")
	}
	backend := treelite.New()
	if err := backend.Probe(&hw.Host{}); err != nil {
		t.Skip(err)
	}
	for _, level := range []hw.Level{hw.X86V2, hw.X86V3, hw.X86V4} {
		dir := filepath.Join(t.TempDir(), "artifact")
		if _, err := compile.Run(t.Context(), compile.Options{Source: testkit.Path(t, "models/xgboost/reg-squarederror-1.7.6.json"), Out: dir, Target: string(level)}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "compiled.meta")); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		a, err := engine.NewArtifact(dir, root)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		_, err = backend.Open(t.Context(), a, engine.OpenOptions{Host: &hw.Host{CPU: hw.CPU{Level: hw.X86V1, CoresAllowed: 1}}, Threads: 1})
		if !errors.Is(err, engine.ErrHost) || !strings.Contains(err.Error(), string(level)) {
			t.Errorf("%s on a host of the baseline: %v", level, err)
		}
	}
}

//go:build cgo && linux && amd64

package dlr_test

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging/compile"
)

// compiled is an artifact of `picket compile`, and its library.
func compiled(t *testing.T) (dir string, library []byte) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "artifact")
	if _, err := compile.Run(t.Context(), compile.Options{Source: testkit.Path(t, "models/xgboost/reg-squarederror-1.7.6.json"), Out: dir}); err != nil {
		t.Fatal(err)
	}
	library, err := os.ReadFile(filepath.Join(dir, "compiled.so"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, library
}

// TestRefusesABitThatChanged flips one bit at a time: libdlr, which does not look, must not get the folder.
func TestRefusesABitThatChanged(t *testing.T) {
	b := newBackend(t)
	dir, library := compiled(t)
	path := filepath.Join(dir, "compiled.so")
	random := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		damaged := bytes.Clone(library)
		damaged[random.IntN(len(library))] ^= 1 << random.IntN(8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
		if err == nil {
			t.Fatal("the artifact was opened, and closed with", m.Close())
		}
		if !errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), "compiled.so is not the file that compiled.meta was written for") {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, library, 0o600); err != nil {
		t.Fatal(err)
	}
	backendtest.Open(t, b, dir)
}

// TestTellsWhatZerosAre: libdlr 1.6 takes them for missing whatever the metadata says, which an operator has to know.
func TestTellsWhatZerosAre(t *testing.T) {
	dense, _ := compiled(t)
	for dir, want := range map[string]engine.Note{
		dense: {Level: slog.LevelWarn, Text: "libdlr 1.6.0 takes exact zeros for missing values, which this model's metadata does not ask for; " +
			"where a zero is a value, run the model with backend treelite or libdlr 1.7 or later"},
		testkit.Path(t, "treelite/fraud-tl0.93"): {Level: slog.LevelInfo, Text: "exact zeros are taken as missing, as compiled.meta says"},
	} {
		if notes := backendtest.Open(t, newBackend(t), dir).Properties().Notes; len(notes) != 1 || notes[0] != want {
			t.Errorf("%s: notes %v, want %v", filepath.Base(dir), notes, want)
		}
	}
	if notes := backendtest.Open(t, newBackend(t), testkit.Path(t, "tvm/mlp_b1-v3")).Properties().Notes; len(notes) != 0 {
		t.Errorf("a graph has no missing values, and notes %v", notes)
	}
}

// TestNamesWhatWasLeftOut: a library that may not be read is not one that is not there.
func TestNamesWhatWasLeftOut(t *testing.T) {
	dir := testkit.CopyDir(t, testkit.Path(t, "tvm/mlp_b1-v3"))
	path := filepath.Join(dir, "compiled.so")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := dlr.New(dlr.Options{}).Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
	if !errors.Is(err, engine.ErrArtifact) || !strings.HasSuffix(err.Error(), `without its library, a .so; "compiled.so" was left out: it is a folder`) {
		t.Error(err)
	}
}

//go:build cgo && linux && amd64

package treelite_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/treelite"
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

func openError(t *testing.T, dir string) error {
	t.Helper()
	m, err := treelite.New().Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
	if err == nil {
		return m.Close()
	}
	return err
}

// TestRefusesABitThatChanged flips one bit at a time, in every section that holds code or data of the model and all over the
// file: of most, nothing but the digest can know.
func TestRefusesABitThatChanged(t *testing.T) {
	dir, library := compiled(t)
	path := filepath.Join(dir, "compiled.so")
	file, err := elf.NewFile(bytes.NewReader(library))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	var offsets []int
	for _, name := range []string{".text", ".rodata"} {
		s := file.Section(name)
		if s == nil || s.Size == 0 {
			t.Fatalf("the library has no %s", name)
		}
		for range 50 {
			offsets = append(offsets, int(s.Offset)+random.IntN(int(s.Size)))
		}
	}
	for range 100 {
		offsets = append(offsets, random.IntN(len(library)))
	}
	for _, at := range append(offsets, 0, len(library)-1) {
		damaged := bytes.Clone(library)
		damaged[at] ^= 1 << random.IntN(8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		err := openError(t, dir)
		if want := "compiled.so is not the file that compiled.meta was written for: its SHA-256 differs; compile it again or copy it whole"; !errors.Is(err, engine.ErrArtifact) || !strings.HasSuffix(err.Error(), want) {
			t.Fatalf("a bit of byte %d of %d: %v", at, len(library), err)
		}
	}
	if err := os.WriteFile(path, library, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := openError(t, dir); err != nil {
		t.Errorf("the library as it was compiled: %v", err)
	}
}

// TestDigestKey: metadata without the digest is what Neo and earlier versions write; one that cannot be read is damage.
func TestDigestKey(t *testing.T) {
	dir, _ := compiled(t)
	path := filepath.Join(dir, "compiled.meta")
	meta, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`,\s*"LibrarySHA256": "[0-9a-f]{64}"`)
	if len(key.FindAll(meta, -1)) != 1 {
		t.Fatalf("compiled.meta has no digest: %s", meta)
	}
	for name, tc := range map[string]struct{ put, say string }{
		"absent":   {"", ""},
		"cut":      {`, "LibrarySHA256": "0123"`, "is not a SHA-256 digest"},
		"null":     {`, "LibrarySHA256": null`, "is not a string"},
		"anothers": {`, "LibrarySHA256": "` + strings.Repeat("0", 64) + `"`, "its SHA-256 differs"},
	} {
		if err := os.WriteFile(path, key.ReplaceAll(meta, []byte(tc.put)), 0o600); err != nil {
			t.Fatal(err)
		}
		err := openError(t, dir)
		if tc.say == "" && err != nil || tc.say != "" && (!errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), tc.say)) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, tc.say)
		}
	}
}

// TestRefusesMetadataThatIsLeftOut: without it the model could answer differently.
func TestRefusesMetadataThatIsLeftOut(t *testing.T) {
	dir, _ := compiled(t)
	path := filepath.Join(dir, "compiled.meta")
	if err := os.Rename(path, filepath.Join(t.TempDir(), "compiled.meta")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "compiled.meta"), path); err != nil {
		t.Fatal(err)
	}
	if err := openError(t, dir); !errors.Is(err, engine.ErrArtifact) || !strings.HasSuffix(err.Error(), `"compiled.meta" was left out: it is a link out of the folder`) {
		t.Error(err)
	}
}

// TestTellsThatZerosAreMissing, where the metadata says so, and only there.
func TestTellsThatZerosAreMissing(t *testing.T) {
	for metadata, want := range map[string]int{`{"Model": {"SparseInput": "1"}}`: 1, `{"Model": {"SparseInput": "0"}}`: 0, "": 0} {
		notes := backendtest.Open(t, treelite.New(), specimen(t, metadata, "GENERATION=1")).Properties().Notes
		if len(notes) != want || want == 1 && notes[0].Text != "exact zeros are taken as missing, as compiled.meta says" {
			t.Errorf("metadata %q: notes %v, want %d", metadata, notes, want)
		}
	}
}

//go:build unix

package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/picket-ml/picket/engine"
)

func TestArtifactStaysInItsFolder(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, make := range map[string]func(string) error{
		"model.so":  func(p string) error { return os.WriteFile(p, []byte("12345"), 0o600) },
		"inner.so":  func(p string) error { return os.Symlink("model.so", p) },
		"escape.so": func(p string) error { return os.Symlink(outside, p) },
		"up.so":     func(p string) error { return os.Symlink("../"+filepath.Base(filepath.Dir(outside))+"/secret", p) },
		"pipe.so":   func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"folder.so": func(p string) error { return os.Mkdir(p, 0o700) },
		"loop.so":   func(p string) error { return os.Symlink("loop.so", p) },
		"gone.so":   func(p string) error { return os.Symlink("absent.so", p) },
		"away.so":   func(p string) error { return os.Symlink("folder.so", p) },
	} {
		if err := make(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := engine.NewArtifact("url", root)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.Files) != 2 || a.Files[0].Name != "inner.so" || a.Files[1] != (engine.ArtifactFile{Name: "model.so", Size: 5}) {
		t.Errorf("the artifact lists %v", a.Files)
	}
	want := []engine.LeftOut{
		{Name: "away.so", Reason: "it is a folder"},
		{Name: "escape.so", Reason: "it is a link out of the folder"},
		{Name: "folder.so", Reason: "it is a folder"},
		{Name: "gone.so", Reason: "it is a link to nothing"},
		{Name: "loop.so", Reason: "it is a link that leads back to itself"},
		{Name: "pipe.so", Reason: "it is not a regular file"},
		{Name: "up.so", Reason: "it is a link out of the folder"},
	}
	if !slices.Equal(a.LeftOut, want) {
		t.Errorf("left out are %v, want %v", a.LeftOut, want)
	}
	if text, want := a.LeftOutText(), `; "away.so" was left out: it is a folder; "escape.so" was left out: it is a link out of the folder; "folder.so" was left out: it is a folder; and 4 more`; text != want {
		t.Errorf("the text is %q, want %q", text, want)
	}
	if !a.Has("model.so") || a.Has("escape.so") {
		t.Error("Has disagrees with the listing")
	}
	for _, name := range []string{"inner.so", "model.so"} {
		if data, err := a.ReadFile(name, 5); err != nil || string(data) != "12345" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for _, name := range []string{"escape.so", "up.so", "pipe.so", "folder.so", "loop.so", "absent.so", "../secret", outside} {
		if data, err := a.ReadFile(name, 100); !errors.Is(err, engine.ErrArtifact) {
			t.Errorf("%s was read: %q, %v", name, data, err)
		}
	}
	if _, err := a.ReadFile("model.so", 4); !errors.Is(err, engine.ErrArtifact) {
		t.Errorf("a file over the limit: %v", err)
	}
}

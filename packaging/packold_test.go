package packaging

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestPackOld(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		ManifestName: `{"metadata": {"model_name": "old", "model_version": "1.0"}}`, "compiled.so": strings.Repeat("code ", 1000), "sub/table.bin": "", ".hidden": "x",
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("compiled.so", filepath.Join(dir, "current.so")); err != nil {
		t.Fatal(err)
	}
	pack := func() []byte {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		var b bytes.Buffer
		if err := PackOld(t.Context(), &b, root); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	data := pack()
	if !bytes.Equal(data, pack()) {
		t.Error("the same files gave other bytes")
	}
	archive := filepath.Join(t.TempDir(), "old.tar.gz")
	if err := os.WriteFile(archive, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	digest, err := DigestOfFile(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	root, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	list, err := UnpackOld(t.Context(), f, digest, root)
	if err != nil {
		t.Fatal(err)
	}
	files["current.so"] = files["compiled.so"]
	delete(files, ".hidden")
	if len(list) != len(files) {
		t.Errorf("unpacked %v", list)
	}
	for name, content := range files {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != content {
			t.Errorf("%s: %.20q, %v", name, got, err)
		}
	}
}

func TestPackOldRefuses(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"holds no file": func(string) error { return nil },
		"escapes":       func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "compiled.so")) },
		"no plain file": func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "compiled.so"), 0o600) },
		"a hyphen":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "-rf"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := PackOld(t.Context(), &bytes.Buffer{}, root); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v", err)
			}
		})
	}
}

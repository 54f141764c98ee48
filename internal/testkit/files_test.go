package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestModuleRootHoldsGoMod(t *testing.T) {
	if _, err := os.Stat(filepath.Join(ModuleRoot(), "go.mod")); err != nil {
		t.Error(err)
	}
}

func TestCopyDirMakesAWritableCopy(t *testing.T) {
	src := t.TempDir()
	if err := os.Mkdir(filepath.Join(src, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "sub", "f"), []byte("before"), 0o444); err != nil {
		t.Fatal(err)
	}
	dst := CopyDir(t, src)
	if err := os.WriteFile(filepath.Join(dst, "sub", "f"), []byte("after"), 0o644); err != nil {
		t.Fatalf("the copy cannot be changed: %v", err)
	}
	original, err := os.ReadFile(filepath.Join(src, "sub", "f"))
	if err != nil || string(original) != "before" {
		t.Errorf("the original now reads %q, %v", original, err)
	}
}

func TestCopyTreeRefusesLinks(t *testing.T) {
	src := t.TempDir()
	if err := os.Symlink("elsewhere", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(t.TempDir(), src); err == nil {
		t.Error("a symbolic link was copied")
	}
}

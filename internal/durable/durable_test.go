package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// ways are the two ways to replace a file in a folder.
var ways = map[string]func(dir, name string, mode fs.FileMode, fill func(*os.File) error) error{
	"by path": func(dir, name string, mode fs.FileMode, fill func(*os.File) error) error {
		return Replace(filepath.Join(dir, name), mode, fill)
	},
	"below a root": func(dir, name string, mode fs.FileMode, fill func(*os.File) error) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		return ReplaceIn(root, name, mode, fill)
	},
}

// content is what fill writes.
func content(text string) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	}
}

// expect wants the folder to hold that file alone.
func expect(t *testing.T, dir, name, text string, mode fs.FileMode) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Fatalf("the folder has %v, want %s alone", entries, name)
	}
	info, err := entries[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != text || info.Mode() != mode {
		t.Errorf("it holds %q with %v, want %q with %v", data, info.Mode(), text, mode)
	}
}

func TestReplace(t *testing.T) {
	for name, replace := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := replace(dir, "a", 0o640, content("first")); err != nil {
				t.Fatal(err)
			}
			expect(t, dir, "a", "first", 0o640)
			if err := replace(dir, "a", 0o600, content("second")); err != nil {
				t.Fatal(err)
			}
			expect(t, dir, "a", "second", 0o600)

			failure := errors.New("no more")
			err := replace(dir, "a", 0o600, func(f *os.File) error {
				return errors.Join(content("half of the thi")(f), failure)
			})
			if !errors.Is(err, failure) {
				t.Errorf("the error of the writer became %v", err)
			}
			expect(t, dir, "a", "second", 0o600)
		})
	}
}

// What cannot be put in its place leaves nothing behind.
func TestPlaceThatIsTaken(t *testing.T) {
	for name, replace := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "a"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := replace(dir, "a", 0o600, content("text")); err == nil {
				t.Error("a folder was replaced by a file")
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("the folder has %v, %v", entries, err)
			}
			if err := replace(dir, "b/c", 0o600, content("text")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("in a folder that there is not: %v", err)
			}
		})
	}
}

// A crash left a file that was not in its place yet.
func TestWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.WriteFile("a"+NewSuffix, []byte("longer than what comes"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteFileIn(root, "a", []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, dir, "a", "short", 0o600)
}

// The links of others do not lead out of a root.
func TestReplaceInStaysBelowItsRoot(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := WriteFileIn(root, "link/a", []byte("text"), 0o600); err == nil {
		t.Error("a link led out of the root")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
}

func TestSyncFolder(t *testing.T) {
	dir := t.TempDir()
	if err := SyncFolder(dir); err != nil {
		t.Error(err)
	}
	if err := SyncFolder(filepath.Join(dir, "none")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a folder that there is not: %v", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := SyncFolderIn(root, ".."); err == nil {
		t.Error("a folder above the root was opened")
	}
}

// A device that somebody has named, as to see nothing of the output, stays one.
func TestOnlyFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir} {
		if err := WriteFile(path, []byte("x"), 0o600); err == nil {
			t.Errorf("%s was replaced", path)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Type() != fs.ModeNamedPipe {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/disktrace"
)

// envTraced has the folder below which the test program, traced, makes folders and files.
const envTraced = "PICKET_TEST_DURABLE_TRACED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envTraced); dir != "" {
		if err := keepFiles(filepath.Join(dir, "a", "b", "c")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testkit.VerifyNoLeaks(m)
}

// keepFiles puts files in their places in each way, and says that they are there.
func keepFiles(dir string) error {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fmt.Println(disktrace.Marker + "a folder")
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for n := range 2 {
		if err := durable.WriteFile(filepath.Join(dir, "by path"), []byte{byte(n)}, 0o600); err != nil {
			return err
		}
		fmt.Println(disktrace.Marker + "by path")
		if err := durable.WriteFileIn(root, "below a root", []byte{byte(n)}, 0o600); err != nil {
			return err
		}
		fmt.Println(disktrace.Marker + "below a root")
	}
	return nil
}

// What a caller was told is there stays there, whatever becomes of the power.
func TestIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	disktrace.Check(t, dir, disktrace.Self(t, envTraced+"="+dir), 5)
	if info, err := os.Stat(filepath.Join(dir, "a", "b", "c")); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestFoldersThatAreThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(dir, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{dir: nil, filepath.Join(dir, "link"): nil, file: fs.ErrExist} {
		if err := durable.MkdirAll(path, 0o700); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if err := durable.MkdirAll(filepath.Join(file, "x"), 0o700); err == nil {
		t.Error("a folder was made below a file")
	}
}

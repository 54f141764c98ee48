package testkit

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// ModuleRoot returns the absolute path of the module's top directory. It knows
// it from where this file was compiled, so tests must run on the tree they were
// built from, which is what `go test` does.
func ModuleRoot() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		panic("testkit: built with -trimpath, so the fixtures cannot be found; build the tests without it")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Path returns the absolute path of a fixture, a file or a folder named relative
// to testkit's testdata with forward slashes. It fails the test when the fixture
// does not exist.
func Path(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(ModuleRoot(), "internal", "testkit", "testdata", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("fixture %s: %v (make fixtures-rebuild makes it again)", name, err)
	}
	return path
}

// ReadF32 returns the little-endian float32 values of a fixture.
func ReadF32(t testing.TB, name string) []float32 {
	t.Helper()
	data := readWhole(t, name, 4)
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

// ReadF64 returns the little-endian float64 values of a fixture.
func ReadF64(t testing.TB, name string) []float64 {
	t.Helper()
	data := readWhole(t, name, 8)
	out := make([]float64, len(data)/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
	}
	return out
}

func readWhole(t testing.TB, name string, size int) []byte {
	t.Helper()
	data, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatalf("reading fixture %s: %v", name, err)
	}
	if len(data)%size != 0 {
		t.Fatalf("fixture %s has %d bytes, which is not a multiple of %d", name, len(data), size)
	}
	return data
}

// CopyDir copies the tree below src, an absolute path such as Path returns, into
// a new temporary folder that the test's end removes, and returns that folder.
// Tests that damage an artifact or add files to it work on such a copy. Only
// regular files and folders are copied; anything else fails the test.
func CopyDir(t testing.TB, src string) string {
	t.Helper()
	dst := t.TempDir()
	if err := copyTree(dst, src); err != nil {
		t.Fatalf("copying %s: %v", src, err)
	}
	return dst
}

func copyTree(dst, src string) error {
	return filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		if entry.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		if !entry.Type().IsRegular() {
			return &fs.PathError{Op: "copy", Path: path, Err: errors.New("not a regular file")}
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// Writable for the owner, whatever the original was: the copy is there to be changed.
		return os.WriteFile(to, data, info.Mode().Perm()|0o200)
	})
}

// Alone returns a new folder with nothing in it but a copy of a fixture, named model
// with the fixture's extension.
func Alone(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model"+filepath.Ext(name)), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

package disktrace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

// What this program does where it is traced, and where.
const envDo, envDir = "PICKET_TEST_DISKTRACE", "PICKET_TEST_DISKTRACE_DIR"

func TestMain(m *testing.M) {
	if do := os.Getenv(envDo); do != "" {
		if err := deeds[do].do(os.Getenv(envDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(Marker + do)
		os.Exit(0)
	}
	testkit.VerifyNoLeaks(m)
}

// create makes a file with bytes, and gives it on, open.
func create(path string) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString("bytes")
	return f, err
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// deeds are ways to write a file, and what each loses.
var deeds = map[string]struct {
	do   func(dir string) error
	lost []string
}{
	"nothing": {func(string) error { return nil }, nil},
	"all": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x"))
		return errors.Join(err, f.Sync(), f.Close(), syncFolder(dir))
	}, nil},
	"no sync of the file": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x"))
		return errors.Join(err, f.Close(), syncFolder(dir))
	}, []string{"x has bytes that are not on disk"}},
	"no sync of the folder": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x"))
		return errors.Join(err, f.Sync(), f.Close())
	}, []string{"the name x is not on disk"}},
	"a write after the sync": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x"))
		err = errors.Join(err, f.Sync(), syncFolder(dir))
		_, more := f.WriteAt([]byte("more"), 2)
		return errors.Join(err, more, f.Close())
	}, []string{"x has bytes that are not on disk"}},
	"a folder in a folder": {func(dir string) error {
		if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
			return err
		}
		f, err := create(filepath.Join(dir, "a", "b", "x"))
		return errors.Join(err, f.Sync(), f.Close(), syncFolder(filepath.Join(dir, "a", "b")), syncFolder(filepath.Join(dir, "a")))
	}, []string{"the name a is not on disk"}},
	"a rename": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x.new"))
		return errors.Join(err, f.Sync(), f.Close(), os.Rename(filepath.Join(dir, "x.new"), filepath.Join(dir, "x")), syncFolder(dir))
	}, nil},
	"a rename that is not on disk": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x.new"))
		return errors.Join(err, f.Sync(), f.Close(), syncFolder(dir), os.Rename(filepath.Join(dir, "x.new"), filepath.Join(dir, "x")))
	}, []string{"the name x is not on disk"}},
	"a rename before the sync": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x.new"))
		return errors.Join(err, os.Rename(filepath.Join(dir, "x.new"), filepath.Join(dir, "x")), f.Sync(), f.Close(), syncFolder(dir))
	}, []string{"x was renamed before its bytes were on disk"}},
	"a link": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x.new"))
		return errors.Join(err, f.Sync(), f.Close(), os.Link(filepath.Join(dir, "x.new"), filepath.Join(dir, "x")), os.Remove(filepath.Join(dir, "x.new")))
	}, []string{"the name x is not on disk"}},
	"something that is gone again": {func(dir string) error {
		f, err := create(filepath.Join(dir, "x"))
		return errors.Join(err, f.Close(), os.Remove(filepath.Join(dir, "x")))
	}, nil},
	"below a root": {func(dir string) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		return errors.Join(root.Mkdir("a", 0o700), root.WriteFile("a/x", []byte("bytes"), 0o600), root.Rename("a/x", "a/y"))
	}, []string{"a/y has bytes that are not on disk", "the name a is not on disk", "the name a/y is not on disk", "a/y was renamed before its bytes were on disk"}},
}

// Each way to write a file loses what it does not force to disk, and nothing else.
func TestWhatIsLost(t *testing.T) {
	for name, deed := range deeds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			promises := Run(t, dir, Self(t, envDo+"="+name, envDir+"="+dir))
			if len(promises) != 1 || promises[0].Text != name || !slices.Equal(promises[0].Lost, deed.lost) {
				t.Errorf("%+q, want what is lost to be %q", promises, deed.lost)
			}
		})
	}
}

// Calls of several threads are told in pieces; a sync counts from when it began.
func TestThreads(t *testing.T) {
	d := newDisk("/t")
	for _, line := range []string{
		`1 openat(5</t>, "x", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 7</t/x>`,
		`1 fsync(5</t>)              = 0`,
		`1 pwrite64(7</t/x>, "a, \"b\"", 6, 0 <unfinished ...>`,
		`2 fdatasync(7</t/x> <unfinished ...>`,
		`1 <... pwrite64 resumed>) = 6`,
		`1 pwrite64(7</t/x>, "b", 1, 6) = 1`,
		`2 <... fdatasync resumed>) = 0`,
		`1 write(1<pipe:[12]>, "on disk: one\n", 13) = 13`,
		`2 fdatasync(7</t/x>)        = -1 EIO (Input/output error)`,
		`1 write(1<pipe:[12]>, "on disk: two\n", 13) = 13`,
		`2 fdatasync(7</t/x>)        = 0`,
		`1 write(1<pipe:[12]>, "on disk: three\n", 15) = 15`,
		`1 exit_group(0)             = ?`,
		`1 +++ exited with 0 +++`,
	} {
		if err := d.line(line); err != nil {
			t.Fatal(line, err)
		}
	}
	want := []Promise{{"one", []string{"x has bytes that are not on disk"}}, {"two", []string{"x has bytes that are not on disk"}}, {"three", nil}}
	if fmt.Sprint(d.promises) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", d.promises, want)
	}
	if err := d.line(`3 <... fsync resumed>) = 0`); err == nil {
		t.Error("a call that was never begun has ended")
	}
}

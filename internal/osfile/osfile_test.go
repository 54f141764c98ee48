package osfile_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/osfile"
)

// holdTask is set for a process that holds the lock of the file that it names until its input ends.
const holdTask = "OSFILE_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdTask); path != "" {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			err = osfile.TryLock(f)
		}
		if err != nil {
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString("held\n")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A lock keeps out who opened the file otherwise, does not keep anybody from reading it, and ends when it is given back and with its file.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, []byte("words"), 0o600); err != nil {
		t.Fatal(err)
	}
	one, other := open(t, path), open(t, path)
	if err := osfile.Lock(one); err != nil {
		t.Fatal(err)
	}
	if err := osfile.TryLock(other); !errors.Is(err, osfile.ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "words" {
		t.Errorf("reading a file that is locked: %q, %v", got, err)
	}
	if err := osfile.Unlock(one); err != nil {
		t.Error(err)
	}
	if err := osfile.TryLock(other); err != nil {
		t.Errorf("a lock that was given back: %v", err)
	}
	waited := make(chan error)
	go func() { waited <- osfile.Lock(one) }()
	select {
	case err := <-waited:
		t.Fatalf("it did not wait for the lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("the lock of a file that was closed: %v", err)
	}
}

// The lock of a process that was killed is free.
func TestLockOfADeadProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f := open(t, path)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdTask+"="+path)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := osfile.TryLock(f); !errors.Is(err, osfile.ErrLocked) {
		t.Errorf("the lock of another process: %v", err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // it was killed
	if err := osfile.Lock(f); err != nil {
		t.Errorf("the lock of a dead process: %v", err)
	}
}

// A directory that is locked can be renamed, and its lock leaves nothing behind.
func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Mkdir("a", 0o700); err != nil {
		t.Fatal(err)
	}
	release, err := osfile.LockDir(root, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := osfile.TryLockDir(root, "a"); !errors.Is(err, osfile.ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if err := root.Rename("a", "b"); err != nil {
		t.Error(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	again, err := osfile.TryLockDir(root, "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "b" {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestFree(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "file"))
	if free, known, err := osfile.Free(f); err != nil || known && free <= 0 {
		t.Errorf("%d bytes are free, known: %t, %v", free, known, err)
	}
	if err := errors.Join(osfile.SyncData(f), osfile.SyncDir(f)); err != nil {
		t.Error(err)
	}
}

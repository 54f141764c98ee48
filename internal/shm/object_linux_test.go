package shm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// testObject makes a shared memory object of the test's own.
func testObject(t *testing.T, data []byte) (key, path string) {
	t.Helper()
	key = fmt.Sprintf("/picket-shm-test-%d", os.Getpid())
	path = objectDir + key
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	return key, path
}

func TestObject(t *testing.T) {
	key, path := testObject(t, []byte("0123456789"))
	o, err := OpenObject(strings.TrimPrefix(key, "/"), self())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got := make([]byte, 4)
	if err := o.Read(got, 3); err != nil || string(got) != "3456" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := o.Write([]byte("abc"), 7); err != nil {
		t.Error(err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != "0123456abc" {
		t.Errorf("the object is %q, %v", now, err)
	}
	for _, offset := range []uint64{7, 10, 11, 1 << 62, 1<<64 - 4, 1<<64 - 1} {
		if err := o.Read(got, offset); !errors.Is(err, ErrTooSmall) {
			t.Errorf("reading 4 bytes at %d: %v", offset, err)
		}
		if err := o.Write(got, offset); !errors.Is(err, ErrTooSmall) {
			t.Errorf("writing 4 bytes at %d: %v", offset, err)
		}
	}
	if size, err := o.Size(); err != nil || size != 10 || o.Removed() {
		t.Errorf("%d bytes, %v, removed %v; writing beyond the end must not have made it longer", size, err, o.Removed())
	}
	if err := os.Remove(path); err != nil || !o.Removed() {
		t.Errorf("removed %v, %v", o.Removed(), err)
	}
}

func TestObjectsThatAreNone(t *testing.T) {
	key, path := testObject(t, []byte("x"))
	for _, name := range []string{"", "/", ".", "/..", "a/b", "//a", "/../etc/passwd", "a\x00b", strings.Repeat("n", 255)} {
		if o, err := OpenObject(name, self()); !errors.Is(err, ErrKey) || o != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := OpenObject(key+"-none", self()); !errors.Is(err, ErrNotExist) {
		t.Errorf("an object that is not there: %v", err)
	}
	other := self()
	other.UID++
	if _, err := OpenObject(key, other); !errors.Is(err, ErrPermission) {
		t.Errorf("an object of another user: %v", err)
	}
	for what, replace := range map[string]func() error{
		"link":   func() error { return os.Symlink("/etc/passwd", path) },
		"folder": func() error { return os.Mkdir(path, 0o700) },
		"pipe":   func() error { return unix.Mkfifo(path, 0o600) },
		"socket": func() error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
	} {
		if err := errors.Join(os.Remove(path), replace()); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenObject(key, self()); !errors.Is(err, ErrPermission) {
			t.Errorf("a %s: %v", what, err)
		}
	}
}

// A client that makes its object shorter and longer all the time gets errors, or
// its bytes.
func TestObjectThatChangesSize(t *testing.T) {
	key, path := testObject(t, nil)
	o, err := OpenObject(key, self())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for size := int64(0); ; size = (1 << 16) - size {
			select {
			case <-done:
				return
			default:
			}
			if err := os.Truncate(path, size); err != nil {
				t.Error(err)
				return
			}
		}
	})
	got := make([]byte, 1<<16)
	for range 500 {
		if err := o.Read(got, 0); err != nil && !errors.Is(err, ErrTooSmall) {
			t.Fatal(err)
		} else if err == nil && !bytes.Equal(got, make([]byte, len(got))) {
			t.Fatal("bytes that nobody wrote")
		}
	}
	close(done)
	wg.Wait()
}

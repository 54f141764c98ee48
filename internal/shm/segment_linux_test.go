package shm

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func self() Peer {
	return Peer{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: int32(os.Getpid())}
}

// newSegment creates a segment holding contents, then sets its mode as clients
// do once they have written, and removes it with the test.
func newSegment(t *testing.T, contents []byte, mode uint32) uint64 {
	t.Helper()
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, len(contents), unix.IPC_CREAT|0o600)
	if err != nil {
		t.Fatalf("creating a segment: %v", err)
	}
	t.Cleanup(func() {
		if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("removing a segment: %v", err)
		}
	})
	mem, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		t.Fatalf("attaching a segment: %v", err)
	}
	copy(mem, contents)
	if err := unix.SysvShmDetach(mem); err != nil {
		t.Fatal(err)
	}
	chmod(t, id, mode)
	return uint64(id)
}

func chmod(t *testing.T, id int, mode uint32) {
	t.Helper()
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err != nil {
		t.Fatal(err)
	}
	desc.Perm.Mode = mode
	if _, err := unix.SysvShmCtl(id, unix.IPC_SET, &desc); err != nil {
		t.Fatal(err)
	}
}

// attached returns how many mappings the segment has.
func attached(t *testing.T, id uint64) uint64 {
	t.Helper()
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(int(id), unix.IPC_STAT, &desc); err != nil {
		t.Fatal(err)
	}
	return desc.Nattch
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestCopyReadsTheNamedBytes(t *testing.T) {
	contents := pattern(10_000)
	for _, mode := range []uint32{0o600, 0o606, 0o404, 0o400} {
		id := newSegment(t, contents, mode)
		for _, c := range []struct{ offset, n int }{
			{0, 10_000}, {0, 1}, {9_999, 1}, {10_000, 0}, {4_095, 2}, {1, 9_999},
		} {
			dst := make([]byte, c.n)
			if err := Copy(dst, Handle{ID: id, Offset: uint64(c.offset)}, self()); err != nil {
				t.Fatalf("mode %o, %d bytes at %d: %v", mode, c.n, c.offset, err)
			}
			if !bytes.Equal(dst, contents[c.offset:c.offset+c.n]) {
				t.Fatalf("mode %o, %d bytes at %d: other bytes than were written", mode, c.n, c.offset)
			}
		}
		if n := attached(t, id); n != 0 {
			t.Fatalf("mode %o: %d mappings left", mode, n)
		}
	}
}

func TestBoundsAreCheckedWithoutOverflow(t *testing.T) {
	// A segment is rounded up to whole pages; the bytes behind its declared end
	// are not the client's to name.
	id := newSegment(t, pattern(100), 0o600)
	for _, c := range []struct {
		offset uint64
		n      int
	}{
		{0, 101}, {1, 100}, {100, 1}, {101, 0}, {4096, 0}, {math.MaxUint64, 1},
		{math.MaxUint64, 2}, {math.MaxUint64 - 49, 100}, {math.MaxInt64, 1}, {1 << 63, 1},
	} {
		h := Handle{ID: id, Offset: c.offset}
		if err := Copy(make([]byte, c.n), h, self()); !errors.Is(err, ErrTooSmall) {
			t.Errorf("%d bytes at %d: %v, want ErrTooSmall", c.n, c.offset, err)
		}
		if c.offset > 100 {
			if n, err := Available(h, self()); !errors.Is(err, ErrTooSmall) || n != 0 {
				t.Errorf("available at %d: %d, %v, want ErrTooSmall", c.offset, n, err)
			}
		}
	}
	if n := attached(t, id); n != 0 {
		t.Fatalf("%d mappings left", n)
	}
}

func TestAvailableIsTheDeclaredSizeNotThePages(t *testing.T) {
	id := newSegment(t, pattern(100), 0o600)
	for offset, want := range map[uint64]uint64{0: 100, 40: 60, 100: 0} {
		if n, err := Available(Handle{ID: id, Offset: offset}, self()); err != nil || n != want {
			t.Errorf("at %d: %d, %v, want %d", offset, n, err, want)
		}
	}
}

func TestUnknownIDs(t *testing.T) {
	gone := newSegment(t, pattern(100), 0o600)
	if _, err := unix.SysvShmCtl(int(gone), unix.IPC_RMID, nil); err != nil {
		t.Fatal(err)
	}
	live := newSegment(t, pattern(100), 0o600)
	for _, id := range []uint64{gone, math.MaxInt32, 1 << 31, math.MaxUint32, live + 1<<32, math.MaxUint64} {
		h := Handle{ID: id}
		if err := Copy(make([]byte, 1), h, self()); !errors.Is(err, ErrNotExist) {
			t.Errorf("copy from id %d: %v, want ErrNotExist", id, err)
		}
		if _, err := Available(h, self()); !errors.Is(err, ErrNotExist) {
			t.Errorf("available of id %d: %v, want ErrNotExist", id, err)
		}
	}
}

// Id 0 is the first segment of a fresh IPC namespace, which may or may not exist
// here; either way it must be treated as an id like any other.
func TestIDZeroIsLookedUp(t *testing.T) {
	var desc unix.SysvShmDesc
	_, statErr := unix.SysvShmCtl(0, unix.IPC_STAT, &desc)
	err := Copy(make([]byte, 0), Handle{ID: 0}, Peer{UID: desc.Perm.Uid})
	switch {
	case statErr == nil && desc.Perm.Uid == desc.Perm.Cuid && err != nil:
		t.Errorf("segment 0 exists, but: %v", err)
	case errors.Is(statErr, unix.EINVAL) && !errors.Is(err, ErrNotExist):
		t.Errorf("segment 0 does not exist, but: %v", err)
	}
}

func TestSegmentsOfOthersAreRefused(t *testing.T) {
	id := newSegment(t, pattern(100), 0o666)
	other := self()
	other.UID++
	if err := Copy(make([]byte, 1), Handle{ID: id}, other); !errors.Is(err, ErrPermission) {
		t.Errorf("copy: %v, want ErrPermission", err)
	}
	if _, err := Available(Handle{ID: id}, other); !errors.Is(err, ErrPermission) {
		t.Errorf("available: %v, want ErrPermission", err)
	}
	// The size is checked after the owner, so that it cannot be probed.
	if err := Copy(make([]byte, 101), Handle{ID: id}, other); !errors.Is(err, ErrPermission) {
		t.Errorf("copy of too much: %v, want ErrPermission", err)
	}
}

func TestAnotherUsersSegmentForRootAndForItsOwner(t *testing.T) {
	for _, mode := range []string{"400", "404", "606"} {
		id, err := strconv.ParseUint(asStranger(t, taskCreate, mode), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		// Root could attach it, and must not do so for a caller who is not its owner.
		if err := Copy(make([]byte, 1), Handle{ID: id}, self()); !errors.Is(err, ErrPermission) {
			t.Errorf("mode %s, root's own request: %v, want ErrPermission", mode, err)
		}
		if err := Copy(make([]byte, 64), Handle{ID: id}, Peer{UID: stranger}); err != nil {
			t.Errorf("mode %s, its owner's request: %v", mode, err)
		}
	}
}

func TestDaemonOfAnotherUserNeedsTheOtherBits(t *testing.T) {
	root := strconv.Itoa(os.Geteuid())
	closed := newSegment(t, pattern(64), 0o400)
	if got := asStranger(t, taskCopy, strconv.FormatUint(closed, 10), root); got != "permission" {
		t.Errorf("mode 400: %s, want a refusal", got)
	}
	open := newSegment(t, pattern(64), 0o404)
	if got := asStranger(t, taskCopy, strconv.FormatUint(open, 10), root); got != "copied" {
		t.Errorf("mode 404: %s, want the copy", got)
	}
}

func TestGivenAwaySegmentIsNobodys(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root can give a segment to a uid of its choice")
	}
	id := newSegment(t, pattern(64), 0o644)
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(int(id), unix.IPC_STAT, &desc); err != nil {
		t.Fatal(err)
	}
	desc.Perm.Uid = stranger
	if _, err := unix.SysvShmCtl(int(id), unix.IPC_SET, &desc); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []uint32{stranger, 0} {
		if err := Copy(make([]byte, 1), Handle{ID: id}, Peer{UID: uid}); !errors.Is(err, ErrPermission) {
			t.Errorf("uid %d: %v, want ErrPermission", uid, err)
		}
	}
}

// A segment removed while it is attached elsewhere keeps its id and its bytes
// until the last detach; the client is then still entitled to its answer.
func TestRemovedButStillAttached(t *testing.T) {
	contents := pattern(64)
	id := newSegment(t, contents, 0o600)
	mem, err := unix.SysvShmAttach(int(id), 0, unix.SHM_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.SysvShmCtl(int(id), unix.IPC_RMID, nil); err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 64)
	if err := Copy(dst, Handle{ID: id}, self()); err != nil || !bytes.Equal(dst, contents) {
		t.Errorf("while attached: %v", err)
	}
	if err := unix.SysvShmDetach(mem); err != nil {
		t.Fatal(err)
	}
	if err := Copy(dst, Handle{ID: id}, self()); !errors.Is(err, ErrNotExist) {
		t.Errorf("after the last detach: %v, want ErrNotExist", err)
	}
}

func TestRemovalDuringCopies(t *testing.T) {
	contents := pattern(1 << 16)
	for range 50 {
		id := newSegment(t, contents, 0o600)
		start := make(chan struct{})
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				<-start
				dst := make([]byte, len(contents))
				for {
					err := Copy(dst, Handle{ID: id}, self())
					if errors.Is(err, ErrNotExist) {
						return
					}
					if err != nil {
						t.Errorf("during removal: %v", err)
						return
					}
					if !bytes.Equal(dst, contents) {
						t.Error("other bytes than were written")
						return
					}
				}
			})
		}
		close(start)
		if _, err := unix.SysvShmCtl(int(id), unix.IPC_RMID, nil); err != nil {
			t.Fatal(err)
		}
		group.Wait()
	}
}

// Memory without pages behind it, here a file cut short under its mapping, must
// be an error of the request and not the end of the process.
func TestFaultWhileCopyingIsAnError(t *testing.T) {
	fd, err := unix.MemfdCreate("cut", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	page := os.Getpagesize()
	if err := unix.Ftruncate(fd, int64(2*page)); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, 2*page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.Ftruncate(fd, int64(page)); err != nil {
		t.Fatal(err)
	}
	if err := copyFaulting(make([]byte, page), mem); err != nil {
		t.Fatalf("the part that is still there: %v", err)
	}
	if err := copyFaulting(make([]byte, 2*page), mem); !errors.Is(err, ErrUnreadable) {
		t.Fatalf("past the cut: %v, want ErrUnreadable", err)
	}
}

func TestLength(t *testing.T) {
	for _, c := range []struct {
		size, need, limit uint64
		want              int
		err               error
	}{
		{0, 120, 1000, 120, nil},
		{60, 120, 1000, 60, nil},
		{1000, 0, 1000, 1000, nil},
		{0, 0, 1000, 0, nil},
		{1001, 120, 1000, 0, ErrTooLarge},
		{0, 1001, 1000, 0, ErrTooLarge},
		{math.MaxUint64, 1, math.MaxUint64, 0, ErrTooLarge},
	} {
		got, err := Handle{Size: c.size}.Length(c.need, c.limit)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("size %d, need %d, limit %d: %d, %v", c.size, c.need, c.limit, got, err)
		}
	}
}

// What a client is told must not help it to find out about the daemon or about
// other users.
func TestErrorsAreOneSentenceWithoutInternals(t *testing.T) {
	for _, kind := range []error{ErrNotExist, ErrTooSmall, ErrPermission, ErrTooLarge, ErrUnreadable} {
		err := &Error{Kind: kind, Cause: unix.EACCES}
		text := err.Error()
		if text != kind.Error() || strings.ContainsAny(text, "\n/.") || strings.ContainsAny(text, "0123456789") {
			t.Errorf("%q is not one sentence of its own", text)
		}
		if !errors.Is(err, kind) || !errors.Is(err, unix.EACCES) {
			t.Errorf("%q does not answer to its kind and cause", text)
		}
	}
}

func FuzzHandle(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0), uint64(0))
	f.Add(uint64(1), uint64(math.MaxUint64), uint64(1), uint64(8))
	f.Add(uint64(math.MaxUint32), uint64(100), uint64(math.MaxUint64), uint64(120))
	f.Add(uint64(math.MaxUint64), uint64(1)<<63, uint64(1)<<63, uint64(1))
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 100, unix.IPC_CREAT|0o600)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, offset, size, need, id64 uint64) {
		// An own segment, whatever the rest says: exactly the ranges inside succeed.
		h := Handle{ID: uint64(id), Offset: offset, Size: size}
		n, err := h.Length(need, 1<<16)
		if err != nil {
			if n != 0 {
				t.Fatalf("length %d beside %v", n, err)
			}
			return
		}
		err = Copy(make([]byte, n), h, self())
		inside := offset <= 100 && uint64(n) <= 100-offset
		if inside != (err == nil) {
			t.Fatalf("%d bytes at %d of a hundred: %v", n, offset, err)
		}
		// Any id, on behalf of a user nobody is: never a success.
		if err := Copy(make([]byte, n), Handle{ID: id64, Offset: offset}, Peer{UID: 4_000_000_000}); err == nil {
			t.Fatalf("segment %d was read for a user who owns none", id64)
		}
	})
}

package tensor_test

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/tensor"
)

// TestPreferLargePages asks the kernel which addresses it was told of: the whole large pages of a Buffer, from its beginning, and
// nothing behind them, which would take more memory than was asked for.
func TestPreferLargePages(t *testing.T) {
	can := canAsk(t)
	for _, tc := range []struct{ bytes, whole int }{
		{1 << 20, 0}, {2<<20 - 1, 0}, {2 << 20, 2 << 20}, {5<<20 + 1, 4 << 20}, {64<<20 + 100, 64 << 20},
	} {
		b, err := tensor.Alloc(tc.bytes)
		if err != nil {
			t.Fatal(err)
		}
		b.PreferLargePages()
		b.Bytes()[0], b.Bytes()[tc.bytes-1] = 1, 1
		x, err := tensor.In("x", tensor.Uint8, tensor.MustShape(int64(tc.bytes)), b, 0)
		if err != nil {
			t.Fatal(err)
		}
		from := uintptr(tensor.Pointer(x))
		if tc.whole > 0 && from%(2<<20) != 0 {
			t.Errorf("%d bytes begin at %#x, where no large page can", tc.bytes, from)
		}
		large := largePages(t)
		for at := 0; at < tc.bytes; at += 64 << 10 {
			if want := can && at < tc.whole; large(from+uintptr(at)) != want {
				t.Fatalf("byte %d of %d: told of large pages %v, want %v", at, tc.bytes, !want, want)
			}
		}
		b.Release()
	}
	memory := make([]byte, 4<<20)
	wrapped := tensor.Wrap(memory, nil)
	defer wrapped.Release()
	wrapped.PreferLargePages() // Go's own heap, which it must leave alone
	x, err := tensor.In("x", tensor.Uint8, tensor.MustShape(4<<20), wrapped, 0)
	if err != nil {
		t.Fatal(err)
	}
	if at := uintptr(tensor.Pointer(x)); largePages(t)(at) {
		t.Error("the kernel was told of somebody else's memory")
	}
}

// canAsk tells whether the kernel can be told to use large pages, and tells of it: some are built without them, and an emulator of programs keeps
// the wish to itself.
func canAsk(t *testing.T) bool {
	t.Helper()
	memory, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	if unix.Madvise(memory, unix.MADV_HUGEPAGE) != nil {
		return false
	}
	b := tensor.Wrap(memory, nil)
	defer b.Release()
	x, err := tensor.In("x", tensor.Uint8, tensor.MustShape(4<<20), b, 0)
	if err != nil {
		t.Fatal(err)
	}
	return largePages(t)(uintptr(tensor.Pointer(x)))
}

// largePages tells of an address whether the kernel was told to back it with large pages.
func largePages(t *testing.T) func(address uintptr) bool {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type mapping struct {
		from, to uint64
		large    bool
	}
	var all []mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if words[0] == "VmFlags:" {
			all[len(all)-1].large = strings.Contains(lines.Text(), " hg")
			continue
		}
		first, last, _ := strings.Cut(words[0], "-")
		from, err := strconv.ParseUint(first, 16, 64)
		to, errTo := strconv.ParseUint(last, 16, 64)
		if err == nil && errTo == nil {
			all = append(all, mapping{from: from, to: to})
		}
	}
	return func(address uintptr) bool {
		for _, m := range all {
			if m.from <= uint64(address) && uint64(address) < m.to {
				return m.large
			}
		}
		t.Fatalf("nothing is mapped at %#x", address)
		return false
	}
}

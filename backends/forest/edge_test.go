package forest

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// edge is memory of which the end is the end of what may be touched: reading or writing behind it ends the process. What
// lies before it is filled with a pattern.
type edge struct {
	mapping []byte
	before  int // bytes of the pattern
	at      unsafe.Pointer
}

// pattern is what memory holds that nobody has written: as a float a NaN, as a number far outside of anything.
const pattern = 0xa5

// newEdge maps size bytes. The caller releases them.
func newEdge(t testing.TB, size int) edge {
	t.Helper()
	page := os.Getpagesize()
	room := (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, room+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatalf("mapping %d bytes: %v", room+page, err)
	}
	if err := unix.Mprotect(m[room:], unix.PROT_NONE); err != nil {
		t.Fatalf("protecting a page: %v", err)
	}
	for i := range m[:room] {
		m[i] = pattern
	}
	return edge{mapping: m, before: room - size, at: unsafe.Add(unsafe.Pointer(unsafe.SliceData(m)), room-size)}
}

func (e edge) release(t testing.TB) {
	t.Helper()
	for i, v := range e.mapping[:e.before] {
		if v != pattern {
			t.Errorf("the byte %d before the memory was written", e.before-i)
			break
		}
	}
	if err := unix.Munmap(e.mapping); err != nil {
		t.Error(err)
	}
}

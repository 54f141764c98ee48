package spool

import (
	"errors"

	"golang.org/x/sys/unix"
)

const (
	// roomBytes is more than may wait. Of a room only what is used takes memory.
	roomBytes = maxPending + 2<<20
	// roomKept is how much of a room stays in memory between batches.
	roomKept = 6 << 20
)

// newRoom is on the heap where there is no other memory, and then grows as it has to. What is kept of one for a disk is a large page
// where the kernel has such: pinning many small ones is half of what a write costs that does not copy.
func newRoom(disk bool) []byte {
	b, err := unix.Mmap(-1, 0, roomBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, 64<<10)
	}
	if disk {
		_ = unix.Madvise(b[:roomKept], unix.MADV_HUGEPAGE) // small ones do, where that fails
	}
	return b
}

// fillRoom has what is kept of a room in memory, so that none of those who write there waits while the system finds and clears some.
func fillRoom(room []byte) {
	if len(room) == roomBytes {
		_ = unix.Madvise(room[:roomKept], unix.MADV_POPULATE_WRITE) // before Linux 5.14 there is none
	}
}

// tidyRoom gives back what a batch of n bytes has used beyond what is kept.
func tidyRoom(room []byte, n int) {
	if len(room) == roomBytes && n > roomKept {
		_ = unix.Madvise(room[roomKept:], unix.MADV_DONTNEED) // it stays, where that fails
	}
}

// freeRooms ends rooms that nobody uses.
func freeRooms(rooms ...[]byte) error {
	var failed error
	for _, b := range rooms {
		if len(b) == roomBytes {
			failed = errors.Join(failed, unix.Munmap(b))
		}
	}
	return failed
}

//go:build unix

package tensor

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapMemory maps n bytes of zeroed memory that the garbage collector does not
// know of. n is a multiple of the page size. What has room for a large page
// begins where one can.
func mapMemory(n int) ([]byte, error) {
	size, skip := n, 0
	if n >= largePage {
		size += largePage
	}
	all, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("mapping %d bytes: %w", n, err)
	}
	if n >= largePage {
		skip = int(-uintptr(all) % largePage)
	}
	unmap(all, skip)
	unmap(unsafe.Add(all, skip+n), size-skip-n)
	mappedBytes.Add(int64(n))
	return unsafe.Slice((*byte)(unsafe.Add(all, skip)), n), nil
}

func unmapMemory(memory []byte) {
	mappedBytes.Add(-int64(len(memory)))
	unmap(unsafe.Pointer(unsafe.SliceData(memory)), len(memory))
}

// unmap ends n bytes of mappings.
func unmap(address unsafe.Pointer, n int) {
	if n == 0 {
		return
	}
	if err := unix.MunmapPtr(address, uintptr(n)); err != nil {
		panic("BUG: unmapping a buffer: " + err.Error())
	}
}

// lockMemory locks the pages of memory, which starts on a page boundary.
func lockMemory(memory []byte) error {
	err := unix.Mlock(memory)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EAGAIN) {
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
			return fmt.Errorf("pinning %d bytes: the process may lock %d KiB in all; raise RLIMIT_MEMLOCK (LimitMEMLOCK= in the unit, ulimit -l in a shell): %w",
				len(memory), limit.Cur>>10, err)
		}
	}
	return fmt.Errorf("pinning %d bytes: %w", len(memory), err)
}

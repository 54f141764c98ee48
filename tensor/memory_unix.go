//go:build unix

package tensor

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mapMemory maps n bytes of zeroed memory that the garbage collector does not
// know of. n is a multiple of the page size.
func mapMemory(n int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("mapping %d bytes: %w", n, err)
	}
	mappedBytes.Add(int64(n))
	return memory, nil
}

func unmapMemory(memory []byte) {
	mappedBytes.Add(-int64(len(memory)))
	if err := unix.Munmap(memory); err != nil {
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

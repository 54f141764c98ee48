//go:build linux

package native

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AwaitInput waits until there is something to read from a file descriptor, at most for so long, and reports whether there is. Go's
// scheduler takes the thread for one that computes: told of a call that blocks, it would wake its watchdog for each. Until it returns nothing
// can stop the whole program, as a collection of garbage does for a moment, so the limit is to be short.
func AwaitInput(fd int, limit time.Duration) bool {
	p, t := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, unix.NsecToTimespec(int64(limit))
	n, _, failed := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	return failed == 0 && n > 0
}

package ring

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AwaitInput waits until there is something to read from a socket, or it is at its end, for so long at most, and reports whether that is so. The
// scheduler takes the thread for one that computes, see Unseen, where s has room for one more of those; else it knows.
func AwaitInput(fd uintptr, s *Spins, most time.Duration) bool {
	unseen := s.enter()
	if unseen {
		defer s.leave()
	}
	for end := clock() + int64(most); ; {
		p, t := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, unix.NsecToTimespec(max(end-clock(), 0))
		var n uintptr
		var failed unix.Errno
		if unseen {
			n, _, failed = unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
		} else {
			n, _, failed = unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
		}
		if failed != unix.EINTR {
			return failed == 0 && n > 0
		}
		runtime.Gosched() // as a rule it is the scheduler that asks for the thread
	}
}

// ReceiveUnseen reads from a socket whose calls block, for so long as its SO_RCVTIMEO says, while the scheduler takes the thread for one that computes, see
// Unseen. It fails with EAGAIN itself when nothing came, and at once when s has no room for one more such wait.
func ReceiveUnseen(fd uintptr, s *Spins, b []byte) (int, error) {
	if !s.enter() {
		return 0, unix.EAGAIN
	}
	defer s.leave()
	n, _, failed := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	if failed == unix.EINTR {
		runtime.Gosched() // as a rule it is the scheduler that asks for the thread
	}
	if failed != 0 {
		return 0, failed
	}
	return int(n), nil
}

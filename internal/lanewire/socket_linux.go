package lanewire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/ring"
)

// readSocket reads what is there, whether or not calls for the descriptor block.
func readSocket(fd uintptr, b []byte) (int, error) {
	n, _, failed := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return result(n, failed)
}

// writeSocket writes what there is room for, likewise.
func writeSocket(fd uintptr, b []byte) (int, error) {
	n, _, failed := unix.Syscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return result(n, failed)
}

func result(n uintptr, failed syscall.Errno) (int, error) {
	if failed != 0 {
		return 0, failed
	}
	return int(n), nil
}

// outOfPoller is the same connection with a descriptor that Go's poller does not know. Its calls block, for ring.LongestUnseen at most.
func outOfPoller(raw syscall.RawConn) (*os.File, syscall.RawConn, error) {
	var own int
	var err error
	if doing := raw.Control(func(fd uintptr) {
		own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); doing != nil || err != nil {
		return nil, nil, fmt.Errorf("taking a connection from Go's poller: %w", errors.Join(doing, err))
	}
	// A file whose calls do not block would be put into the poller when it is made. It is the same for both descriptors.
	most := unix.NsecToTimeval(int64(ring.LongestUnseen))
	if err := errors.Join(unix.SetsockoptTimeval(own, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &most), unix.SetNonblock(own, false)); err != nil {
		return nil, nil, errors.Join(err, unix.SetNonblock(own, true), unix.Close(own))
	}
	file := os.NewFile(uintptr(own), "lane")
	outside, err := file.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, unix.SetNonblock(own, true), file.Close())
	}
	return file, outside, nil
}

// intoPoller is the way back. The file stays the caller's.
func intoPoller(file *os.File) (*net.UnixConn, syscall.RawConn, error) {
	made, err := net.FileConn(file)
	if err != nil {
		return nil, nil, fmt.Errorf("giving a connection to Go's poller: %w", err)
	}
	conn := made.(*net.UnixConn) // it was one
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, raw, nil
}

// awaitOutput waits until there is room, for so long at most, and reports whether there is. A connection that is broken has room.
func awaitOutput(fd uintptr, most time.Duration) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for end := time.Now().Add(most); ; {
		t := unix.NsecToTimespec(max(int64(time.Until(end)), 0))
		n, err := unix.Ppoll(p[:], &t, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

// shutdown ends both directions of a connection outside the poller, or the one to the other side.
func shutdown(raw syscall.RawConn, write bool) error {
	how := unix.SHUT_RDWR
	if write {
		how = unix.SHUT_WR
	}
	var err error
	return errors.Join(raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), how) }), err)
}

package lanewire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func readSocket(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }

func writeSocket(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }

// outOfPoller is the same connection with a descriptor that Go's poller does not know. Its calls do not block.
func outOfPoller(raw syscall.RawConn) (*os.File, syscall.RawConn, error) {
	var own int
	var err error
	if doing := raw.Control(func(fd uintptr) {
		own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); doing != nil || err != nil {
		return nil, nil, fmt.Errorf("taking a connection from Go's poller: %w", errors.Join(doing, err))
	}
	// A file whose calls do not block would be put into the poller when it is made.
	if err := unix.SetNonblock(own, false); err != nil {
		return nil, nil, errors.Join(err, unix.Close(own))
	}
	file := os.NewFile(uintptr(own), "lane")
	outside, err := file.SyscallConn()
	if err = errors.Join(err, unix.SetNonblock(own, true)); err != nil {
		return nil, nil, errors.Join(err, file.Close())
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

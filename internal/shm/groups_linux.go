package shm

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PeerGroups asks the kernel for the supplementary groups of the process at the other end as they were when it connected
// (SO_PEERGROUPS). The connection stays the caller's.
func PeerGroups(conn *net.UnixConn) ([]uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("reading peer groups: %w", err)
	}
	var groups []uint32
	var sockErr error
	if err := raw.Control(func(fd uintptr) { groups, sockErr = peerGroups(fd) }); err != nil {
		return nil, fmt.Errorf("reading peer groups: %w", err)
	}
	if sockErr != nil {
		return nil, fmt.Errorf("reading peer groups: %w", sockErr)
	}
	return groups, nil
}

// maxGroups is the kernel's own limit (NGROUPS_MAX).
const maxGroups = 65536

// peerGroups is the system call, which golang.org/x/sys does not have: with too little room the kernel says how much there must be.
func peerGroups(fd uintptr) ([]uint32, error) {
	const size = uint32(unsafe.Sizeof(uint32(0)))
	for room := uint32(32); room <= maxGroups; {
		groups := make([]uint32, room)
		bytes := room * size
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&bytes)), 0)
		switch {
		case errno == 0:
			return groups[:bytes/size], nil
		case errno != syscall.ERANGE || bytes <= room*size:
			return nil, errno
		}
		room = bytes / size
	}
	return nil, errors.New("the process has more groups than the kernel allows")
}

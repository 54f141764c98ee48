package shm

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// PeerCred asks the kernel who connected (SO_PEERCRED). The connection stays the
// caller's. A client cannot forge the answer, but PID may have been reused since
// and is fit for logs only.
func PeerCred(conn *net.UnixConn) (Peer, error) {
	if conn == nil {
		return Peer{}, errors.New("reading peer credentials: no connection")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("reading peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, fmt.Errorf("reading peer credentials: %w", err)
	}
	if sockErr != nil {
		return Peer{}, fmt.Errorf("reading peer credentials: %w", sockErr)
	}
	// An unconnected or already dead socket answers with a process 0 that nobody
	// has; taking its uid for a caller's would be a guess.
	if cred.Pid == 0 && cred.Uid == ^uint32(0) {
		return Peer{}, errors.New("reading peer credentials: the socket has no peer")
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid}, nil
}

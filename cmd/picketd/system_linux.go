package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/config"
)

// start runs the program and returns its exit code.
func start(args []string) int { return execute(args, os.Stdout, os.Stderr, starter{}) }

// systemCommands are the commands that this system alone has: none.
func systemCommands(io.Writer) []*cobra.Command { return nil }

// adapt makes of a configuration what this system can have: here all of it.
func adapt(*config.Config) error { return nil }

// restartSignal asks for a new process in the place of this one.
const restartSignal = syscall.SIGUSR2

// thisProgram is the program that runs, also where another one, or none, has its place by now.
func thisProgram() string {
	const itself = "/proc/self/exe"
	if path, err := os.Readlink(itself); err == nil && !strings.HasSuffix(path, " (deleted)") {
		return path
	}
	return itself
}

// apart starts a process in a group of its own: Ctrl-C is for the daemon.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// goFirst has the kernel end this process before others where memory runs out.
func goFirst() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) }

// identify is the file at path, which may be a link and is not followed.
func identify(path string) (fileID, error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return fileID{}, err
	}
	return fileID{s.Dev, s.Ino}, nil
}

// fileState changes with the file at path, and with what lies there. The time of change is the kernel's own: nobody can set it back.
func fileState(path string) (string, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %d %d %v %v", s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim), nil
}

// restrict gives a socket, and so the file that it will be bound to, to nobody but the daemon's user.
func restrict(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	return errors.Join(c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) }), chmodErr)
}

// permit sets who may connect.
func (s *socket) permit(mode fs.FileMode, group string) error {
	gid, err := lookUpGroup(group)
	if err != nil {
		return err
	}
	if gid >= 0 {
		if err := os.Lchown(s.path, -1, gid); err != nil {
			return fmt.Errorf("giving %s to group %s, which the daemon's user must be a member of: %w", s.path, group, err)
		}
	}
	if err := os.Chmod(s.path, mode.Perm()); err != nil {
		return fmt.Errorf("setting the mode of %s: %w", s.path, err)
	}
	return nil
}

// lookUpGroup is the id of a group by name or number, -1 for none.
func lookUpGroup(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if errors.As(err, new(user.UnknownGroupError)) {
		return -1, usageError{fmt.Errorf("looking up the sockets' group %s: this host does not know it; name one that it knows, or its number", group)}
	}
	if err != nil {
		return -1, fmt.Errorf("looking up the sockets' group: %w", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1, fmt.Errorf("looking up the sockets' group %s: its id is %q", group, g.Gid)
	}
	return gid, nil
}

// removeLock removes the lock file, if it is still the one that is held, before it lets go of it.
func removeLock(path string, held *os.File) error {
	info, err := held.Stat()
	return errors.Join(err, removeIf(path, info), held.Close())
}

// addressOf is where a socket that the service manager has passed listens.
func addressOf(f *os.File) (string, error) {
	address, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return "", err
	}
	switch a := address.(type) {
	case *unix.SockaddrUnix:
		return a.Name, nil
	case *unix.SockaddrInet4:
		return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String(), nil
	case *unix.SockaddrInet6:
		return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String(), nil
	}
	return "", nil
}

// fits tells whether f is a listening socket of the door's type; the error goes on a
// sentence about the socket.
func (d *door) fits(f *os.File) error {
	var of [3]int
	for i, option := range []int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_ACCEPTCONN} {
		var err error
		if of[i], err = unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, option); err != nil {
			return fmt.Errorf("is no socket: %w", err)
		}
	}
	domain, kind, listens := of[0], of[1], of[2] != 0
	type want struct {
		domains []int
		kind    int
		text    string
	}
	w := map[string]want{
		"unix":       {[]int{unix.AF_UNIX}, unix.SOCK_STREAM, "a Unix socket of type SOCK_STREAM: give its .socket unit ListenStream= with a path"},
		"unixpacket": {[]int{unix.AF_UNIX}, unix.SOCK_SEQPACKET, "a Unix socket of type SOCK_SEQPACKET: give its .socket unit ListenSequentialPacket= with a path"},
		"tcp":        {[]int{unix.AF_INET, unix.AF_INET6}, unix.SOCK_STREAM, "a TCP socket: give its .socket unit ListenStream= with a port"},
	}[d.network]
	if !slices.Contains(w.domains, domain) || kind != w.kind {
		return fmt.Errorf("must be %s", w.text)
	}
	if !listens {
		return errors.New("does not listen: its .socket unit must not say Accept=yes")
	}
	return nil
}

// socketPair makes two sockets that are connected, one of them for another process.
func socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "handover"), os.NewFile(uintptr(pair[1]), "handover"), nil
}

// duplicate is another descriptor of what from is of. Unlike what File of a listener
// gives, it is not made to block when it is passed on: blocking belongs to what is
// shared, and accepting would block too.
func duplicate(from syscall.Conn) (*os.File, error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var failed error
	if err := raw.Control(func(is uintptr) { fd, failed = unix.FcntlInt(is, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return os.NewFile(uintptr(fd), "handed over"), nil
}

// closeOnExec keeps an inherited descriptor from processes that this one starts.
func closeOnExec(fd int) { unix.CloseOnExec(fd) }

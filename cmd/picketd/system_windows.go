package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/picket-ml/picket/internal/config"
)

// thisProgram is the program that runs: Windows lets nobody replace it.
func thisProgram() string {
	self, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return self
}

// apart starts a process in a group of its own: Ctrl-C is for the daemon.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.BELOW_NORMAL_PRIORITY_CLASS}
}

// goFirst is for Linux alone.
func goFirst() error { return nil }

// restartSignal is none that is ever sent.
const restartSignal = syscall.Signal(0x7f)

var (
	errOneProcess = errors.New("on Windows a process cannot hand its sockets to another: stop the daemon and start the new one")
	errNoUnix     = errors.New("this Windows has no Unix sockets, which came with Windows 10 1803 and Server 2019: have a port on this machine instead, with tcp.listen: [127.0.0.1:8080] and tcp.agent: true")
)

// adapt makes of a configuration what Windows can have. What is there by default and cannot be had is left out; what was asked for
// and cannot be had is an error.
func adapt(c *config.Config) error {
	var mistakes []error
	refuse := func(key, why string) { mistakes = append(mistakes, fmt.Errorf("%s: %s", key, why)) }
	unix := hasUnix()
	if !unix && !c.TCP.Agent {
		mistakes = append(mistakes, errNoUnix)
	}
	for _, door := range doors {
		if door.socket == nil {
			continue
		}
		s := door.socket(c)
		if s.Group != "" {
			refuse("sockets."+door.key+".group", "a socket has no group on Windows: the access list of its folder says who may connect")
		}
		if len(s.AllowUsers)+len(s.AllowGroups) > 0 {
			refuse("sockets."+door.key+".allow_users and allow_groups", "Windows does not say who is at the other end of a socket: have the access list of its folder say who may connect")
		}
		// The lane's sockets are of a type that Windows has not, and its rings are sealed memory of Linux.
		if !unix || door.protocol == "lane" {
			s.Paths = nil
		}
	}
	if c.Limits.MaxConnectionsPerUser > 0 {
		refuse("limits.max_connections_per_user", "Windows does not say who is at the other end of a socket: limit all clients with limits.max_connections")
	}
	if c.TCP.SharedMemory {
		refuse("tcp.shared_memory", "Windows has no POSIX shared memory: send tensors in the requests")
	}
	return errors.Join(mistakes...)
}

// hasUnix tells whether this Windows has Unix sockets.
func hasUnix() bool {
	var about windows.WSAData
	if err := windows.WSAStartup(0x202, &about); err != nil { // version 2.2, the last
		return false
	}
	defer windows.WSACleanup() // which are counted
	s, err := windows.Socket(windows.AF_UNIX, windows.SOCK_STREAM, 0)
	if err != nil {
		return false
	}
	_ = windows.Closesocket(s) // it was never used
	return true
}

// identify is not known: only a process that hands its sockets over asks.
func identify(string) (fileID, error) { return fileID{}, errOneProcess }

// fileState changes with the file at path, as far as its size and time do.
func fileState(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano()), nil
}

// restrict and permit leave it to the access list of the socket's folder who may connect.
func restrict(_, _ string, _ syscall.RawConn) error { return nil }

func (s *socket) permit(fs.FileMode, string) error { return nil }

// lookUpGroup finds none: adapt has refused whoever names one.
func lookUpGroup(string) (int, error) { return -1, nil }

// removeLock lets go of the lock file before it removes it: a file that is open cannot be.
func removeLock(path string, held *os.File) error {
	info, err := held.Stat()
	return errors.Join(err, held.Close(), removeIf(path, info))
}

// addressOf, fits, socketPair, duplicate and closeOnExec are for sockets that a service manager or an older process passes on.
func addressOf(*os.File) (string, error) { return "", errOneProcess }

func (d *door) fits(*os.File) error { return errOneProcess }

func socketPair() (ours, theirs *os.File, err error) { return nil, nil, errOneProcess }

func duplicate(syscall.Conn) (*os.File, error) { return nil, errOneProcess }

func closeOnExec(int) {}

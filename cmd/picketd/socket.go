package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/oserror"
	"github.com/picket-ml/picket/internal/osfile"
)

// socket is a listening socket file and the lock that makes it ours.
//
// The lock is a file beside the socket that is held (flock) for the life of the
// process, so the kernel frees it however the process ends. Whoever has it may
// replace a socket file that nobody answers on; between two daemons that start
// at once, only one can have it. Processes that know nothing of the lock, the
// original agent for one, are found by connecting.
type socket struct {
	path     string
	listener *net.UnixListener
	file     fs.FileInfo // of the socket file as it was made
	lock     *os.File
	// shared says that another process of the daemon has the socket too, and the files
	// are its to remove.
	shared bool
}

// adopt makes a socket of what another process of the daemon had open, and shares it
// with that process for now. The mode and the group stay as they are.
func adopt(i *inherited) (*socket, error) {
	s := &socket{path: i.address, lock: i.lock, shared: true}
	if is, err := identify(i.address); err == nil && is == i.made {
		s.file, err = os.Lstat(i.address)
		if err != nil {
			return nil, fmt.Errorf("looking at the inherited socket: %w", err)
		}
	}
	l, err := i.listener()
	if err != nil {
		return nil, err
	}
	s.listener = l.(*net.UnixListener)
	s.listener.SetUnlinkOnClose(false)
	return s, nil
}

// identity is that of the socket file, and zero if it is not the one any more that was
// made.
func (s *socket) identity() fileID {
	id, err := identify(s.path)
	if now, statErr := os.Lstat(s.path); err != nil || statErr != nil || s.file == nil || !os.SameFile(now, s.file) {
		return fileID{}
	}
	return id
}

// own takes the socket over from the process that it was shared with, and gives the
// file the mode and the group.
func (s *socket) own(mode fs.FileMode, group string) error {
	s.shared = false
	if s.file == nil {
		return nil // it is somebody else's that is there now
	}
	return s.permit(mode, group)
}

// probeTimeout is how long a process may take to accept the connection that
// asks whether it is there. The kernel accepts for it unless its queue is full.
const probeTimeout = time.Second

// listen makes a socket file with exactly that mode and group, of the type of
// network: unix or unixpacket. At no time can
// it be connected to by those whom the mode keeps out. With force, whoever
// answers at path loses it, but a file that is no socket is never removed. The
// caller closes the socket.
func listen(network, path string, mode fs.FileMode, group string, force bool) (_ *socket, err error) {
	if _, err := lookUpGroup(group); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of socket %s: %w", path, err)
	}
	lock, err := acquireLock(path, force)
	if err != nil {
		return nil, err
	}
	s := &socket{path: path, lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := clearPlace(network, path, force); err != nil {
		return nil, err
	}
	// A socket file gets the mode of the socket, less the umask, when it is
	// bound: nobody else until chmod below.
	restricted := net.ListenConfig{Control: restrict}
	l, err := restricted.Listen(context.Background(), network, path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	s.listener = l.(*net.UnixListener)
	s.listener.SetUnlinkOnClose(false) // close does it, if the file is still ours
	if s.file, err = os.Lstat(path); err != nil {
		return nil, fmt.Errorf("looking at the socket just made: %w", err)
	}
	if err := s.permit(mode, group); err != nil {
		return nil, err
	}
	return s, nil
}

// close stops listening and removes the files, if they are still the ones that
// listen made. It may be called on a socket that was made in part.
func (s *socket) close() error {
	var failed []error
	if s.listener != nil {
		// The server has closed it as a rule.
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			failed = append(failed, err)
		}
	}
	if s.shared {
		return errors.Join(append(failed, s.lock.Close())...)
	}
	failed = append(failed, removeIf(s.path, s.file), removeLock(lockPath(s.path), s.lock))
	return errors.Join(failed...)
}

// removeIf removes path if it is the file that made describes.
func removeIf(path string, made fs.FileInfo) error {
	if made == nil {
		return nil
	}
	if now, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	} else if !os.SameFile(now, made) {
		return nil // somebody has replaced it: theirs to keep
	}
	return os.Remove(path)
}

func lockPath(path string) string { return path + ".lock" }

// lockAttempts bounds the races with processes that just remove their lock.
const lockAttempts = 100

// acquireLock opens and locks path's lock file.
func acquireLock(path string, force bool) (*os.File, error) {
	name := lockPath(path)
	for range lockAttempts {
		f, err := openLock(name)
		if err != nil {
			return nil, fmt.Errorf("opening the lock of socket %s: %w", path, err)
		}
		if err := osfile.TryLock(f); err != nil {
			_ = f.Close()
			switch {
			case !errors.Is(err, osfile.ErrLocked):
				return nil, fmt.Errorf("locking socket %s: %w", path, err)
			case !force:
				return nil, fmt.Errorf("another picketd serves %s: stop it, choose another socket, or take it over with -f", path)
			}
			// The other process keeps its lock on a file that has no name any
			// more, and sees at its end that the files are not its own.
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("taking over the lock of socket %s: %w", path, err)
			}
			continue
		}
		// The file may have been removed by its last holder before we locked it.
		ours, err := f.Stat()
		if err == nil {
			if named, err := os.Lstat(name); err == nil && os.SameFile(ours, named) {
				return f, nil
			}
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("locking socket %s: other processes kept taking the lock", path)
}

// openLock opens or makes the file. Opening and making are two steps because in
// /tmp the kernel forbids to do both at once to another user's file.
func openLock(name string) (*os.File, error) {
	const flags = os.O_RDWR | osfile.NoFollow
	for range lockAttempts {
		f, err := os.OpenFile(name, flags, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		f, err = os.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, errors.New("other processes kept making and removing it")
}

// clearPlace removes a socket file that nobody answers on, as a process that was
// killed leaves it.
func clearPlace(network, path string, force bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is a file and no socket: remove it, or choose another place for the socket", path)
	}
	if !force {
		if err := checkNobodyAnswers(network, path); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the old socket %s: %w", path, err)
	}
	return nil
}

func checkNobodyAnswers(network, path string) error {
	conn, err := net.DialTimeout(network, path, probeTimeout)
	if err == nil {
		_ = conn.Close()
	}
	// Of the other type, it answers all the same.
	if err == nil || errors.Is(err, syscall.EPROTOTYPE) {
		return fmt.Errorf("another process answers on %s: stop it, choose another socket, or take it over with -f", path)
	}
	if oserror.Refused(err) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("finding out whether a process answers on %s: %w; if none does, start with -f", path, err)
}

package osfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// NoFollow is the flag with which a file is not opened that is a link.
const NoFollow = unix.O_NOFOLLOW

// Lock waits until it has the file's lock, which ends with Unlock, when the file is closed, and with the process.
func Lock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// TryLock is Lock, and fails with ErrLocked where it would have to wait.
func TryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// Unlock gives the lock back.
func Unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// LockDir is Lock for a directory. release ends it.
func LockDir(root *os.Root, name string) (release func() error, err error) {
	return lockDir(root, name, Lock)
}

// TryLockDir is TryLock for a directory.
func TryLockDir(root *os.Root, name string) (release func() error, err error) {
	return lockDir(root, name, TryLock)
}

func lockDir(root *os.Root, name string, lock func(*os.File) error) (release func() error, err error) {
	dir, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	if err := lock(dir); err != nil {
		_ = dir.Close() // it was not locked
		return nil, err
	}
	return dir.Close, nil
}

// Owner is the user whose file it is, as far as the system says.
func Owner(info fs.FileInfo) (uid uint32, known bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return s.Uid, true
}

// SyncData has the bytes of a file on disk when it returns, and what is needed to read them; the time of the last change may be
// lost.
func SyncData(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		for failed = unix.EINTR; failed == unix.EINTR; {
			failed = unix.Fdatasync(int(fd))
		}
	}); err != nil {
		return err
	}
	return failed
}

// SyncDir has the names in a directory on disk when it returns.
func SyncDir(dir *os.File) error { return dir.Sync() }

// BeginSync is a hint to begin to write these bytes of the file to disk.
func BeginSync(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}

// Free is how many more bytes may be written to the disk that the file is on; it is not known of file systems without a limit.
func Free(f *os.File) (bytes int64, known bool, err error) {
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &disk); err != nil {
		return 0, false, &fs.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return int64(disk.Bavail) * disk.Bsize, disk.Blocks > 0, nil
}

package osfile

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// NoFollow is no flag: who may make links here has the rights of an administrator.
const NoFollow = 0

// The lock is on a byte that no file has, because a lock here keeps others from reading what it is on.
const lockAt = 1<<63 - 1

func lock(f *os.File, flags uint32) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{Offset: lockAt & 0xffffffff, OffsetHigh: lockAt >> 32})
}

// Lock waits until it has the file's lock, which ends with Unlock, when the file is closed, and with the process.
func Lock(f *os.File) error { return lock(f, windows.LOCKFILE_EXCLUSIVE_LOCK) }

// TryLock is Lock, and fails with ErrLocked where it would have to wait.
func TryLock(f *os.File) error {
	err := lock(f, windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

// Unlock gives the lock back.
func Unlock(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{Offset: lockAt & 0xffffffff, OffsetHigh: lockAt >> 32})
}

// lockSuffix is of the file beside a directory that is locked for it: a directory itself cannot be.
const lockSuffix = ".lock"

// LockDir is Lock for a directory. release ends it.
func LockDir(root *os.Root, name string) (release func() error, err error) {
	return lockDir(root, name, Lock)
}

// TryLockDir is TryLock for a directory.
func TryLockDir(root *os.Root, name string) (release func() error, err error) {
	return lockDir(root, name, TryLock)
}

func lockDir(root *os.Root, name string, lock func(*os.File) error) (release func() error, err error) {
	f, err := root.OpenFile(name+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		_ = f.Close() // it was not locked
		return nil, err
	}
	return func() error { return errors.Join(f.Close(), root.Remove(name+lockSuffix)) }, nil
}

// Owner is not known: access lists say who may do what.
func Owner(fs.FileInfo) (uid uint32, known bool) { return 0, false }

// SyncData has the bytes of a file on disk when it returns.
func SyncData(f *os.File) error { return f.Sync() }

// SyncDir does nothing: the file system's journal keeps names.
func SyncDir(*os.File) error { return nil }

// BeginSync does nothing.
func BeginSync(*os.File, int64, int64) {}

// Free is how many more bytes this user may write to the disk that the file is on.
func Free(f *os.File) (bytes int64, known bool, err error) {
	dir, err := windows.UTF16PtrFromString(filepath.Dir(f.Name()))
	if err != nil {
		return 0, false, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(dir, &free, nil, nil); err != nil {
		return 0, false, &fs.PathError{Op: "GetDiskFreeSpaceEx", Path: f.Name(), Err: err}
	}
	return int64(min(free, math.MaxInt64)), true, nil
}

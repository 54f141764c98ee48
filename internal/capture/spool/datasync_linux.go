package spool

import "golang.org/x/sys/unix"

// Sync implements File: what is not needed to read the bytes, such as the time of the
// last change, may be lost.
func (f *osFile) Sync() error {
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

package oserror

import (
	"errors"
	"syscall"
)

// Refused tells whether nobody listens at the address that was dialled.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// Reset tells whether the other end broke the connection.
func Reset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// OutOfFiles tells whether the process or the system has no file descriptors left, which passes.
func OutOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// ErrNoRoom is what a full disk is called here.
const ErrNoRoom = syscall.ENOSPC

// NoRoom tells whether the disk is full.
func NoRoom(err error) bool { return errors.Is(err, ErrNoRoom) }

// OverQuota tells whether the user may not have more of the disk.
func OverQuota(err error) bool { return errors.Is(err, syscall.EDQUOT) }

package oserror

import (
	"errors"

	"golang.org/x/sys/windows"
)

// Refused tells whether nobody listens at the address that was dialled.
func Refused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }

// Reset tells whether the other end broke the connection.
func Reset(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNABORTED)
}

// OutOfFiles tells whether the process or the system has no handles left, which passes.
func OutOfFiles(err error) bool {
	return errors.Is(err, windows.WSAEMFILE) || errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES)
}

// ErrNoRoom is what a full disk is called here.
const ErrNoRoom = windows.ERROR_DISK_FULL

// NoRoom tells whether the disk is full.
func NoRoom(err error) bool {
	return errors.Is(err, ErrNoRoom) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// OverQuota tells whether the user may not have more of the disk.
func OverQuota(err error) bool { return errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED) }

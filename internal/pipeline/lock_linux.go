package pipeline

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/osfile"
)

// lockJournal fails with osfile.ErrLocked where another run has the lock. It is of a kind that can be looked at without being taken.
func lockJournal(f *os.File) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return osfile.ErrLocked
	}
	return err
}

func journalIsLocked(f *os.File) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}

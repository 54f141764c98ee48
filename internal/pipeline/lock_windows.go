package pipeline

import (
	"errors"
	"os"

	"github.com/picket-ml/picket/internal/osfile"
)

// lockJournal fails with osfile.ErrLocked where another run has the lock.
func lockJournal(f *os.File) error { return osfile.TryLock(f) }

// journalIsLocked takes the lock for a moment to find out.
func journalIsLocked(f *os.File) bool {
	err := osfile.TryLock(f)
	if err == nil {
		_ = osfile.Unlock(f) // closing it unlocks it too
	}
	return errors.Is(err, osfile.ErrLocked)
}

package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit/disktrace"
)

// acceptIn in the environment makes the test binary accept packages in the folder that it names.
const acceptIn = "PICKET_TEST_ACCEPT_IN"

// acceptSome has a host run a few packages for the first time, and says each time that it may not go back.
func acceptSome(dir string) (err error) {
	s, err := New(Options{State: filepath.Join(dir, "var", "state"), Unsigned: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for version := range 3 {
		if err := s.ledger.accept("fraud", fmt.Sprint(version+1), fmt.Sprintf("sha256:%064x", version), time.Now(), true); err != nil {
			return err
		}
		fmt.Printf(disktrace.Marker+"version %d has run\n", version+1)
	}
	return nil
}

// TestWhatHasRunIsOnDisk: a loss of power right after a package has begun to serve brings no older one back, on a host that has never run one either.
func TestWhatHasRunIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	disktrace.Check(t, dir, disktrace.Self(t, acceptIn+"="+dir), 3)
}

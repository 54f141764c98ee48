package residency

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/disktrace"
)

// envTraced has the folder below which the test program, traced, keeps an audit log.
const envTraced = "PICKET_TEST_AUDIT_TRACED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envTraced); dir != "" {
		if err := keepLog(filepath.Join(dir, "var", "audit")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testkit.VerifyNoLeaks(m)
}

// keepLog appends lines to two files of a log, in two lives, and says each time that what a line is about may go.
func keepLog(dir string) (err error) {
	for range 2 {
		a := NewAudit(dir)
		a.rotateAt = 1000
		for n := range 6 {
			e, err := a.Append(Entry{Event: Sending, Object: fmt.Sprintf("s3://b/%d", n), Bytes: 10, Kind: "edge", Spool: "a", Segment: uint64(n), Records: "1-3", Count: 3})
			if err != nil {
				return errors.Join(err, a.Close())
			}
			fmt.Printf(disktrace.Marker+"line %d\n", e.Number)
			e.Event = Stored
			if e, err = a.Append(e); err != nil {
				return errors.Join(err, a.Close())
			}
			fmt.Printf(disktrace.Marker+"line %d\n", e.Number)
			if err := a.Settle(); err != nil {
				return errors.Join(err, a.Close())
			}
		}
		if err := a.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestLinesAreOnDisk: what left is in the log after a loss of power too.
func TestLinesAreOnDisk(t *testing.T) {
	dir := t.TempDir()
	disktrace.Check(t, dir, disktrace.Self(t, envTraced+"="+dir), 24, "var/audit/"+auditLock)
	s, lines, err := verify(filepath.Join(dir, "var", "audit"))
	if err != nil || lines != 24 || s.Files < 2 {
		t.Errorf("%+v, %d lines, %v; want 24 in several files", s, lines, err)
	}
}

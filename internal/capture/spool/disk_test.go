package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit/disktrace"
)

// envTraced has the directory of a process whose calls of the system are written down.
const envTraced = "PICKET_TEST_SPOOL_TRACED"

// traced does what a spool is for, and says each time what it was told.
func traced(dir string) error {
	// Nothing is to be written while a promise is made but what it is about.
	options := Options{Dir: filepath.Join(dir, "var", "spool"), SegmentBytes: 16 << 10, SegmentAge: time.Hour, BesideBytes: 64 << 10, FlushAfter: time.Hour}
	for range 2 {
		s, err := Open(options)
		if err != nil {
			return err
		}
		// The committer seals a full segment after it has told who waits.
		promise := func(format string, args ...any) {
			s.disk.Lock()
			defer s.disk.Unlock()
			fmt.Printf(disktrace.Marker+format+"\n", args...)
		}
		add := func(n, bytes int, explicitly bool) error {
			e := sample(n)
			if explicitly {
				e = explicit(n)
			}
			e.Inputs[0].Data = make([]byte, bytes)
			if err := s.Append(context.Background(), e); err != nil {
				return err
			}
			promise("record %d of %d bytes", n, bytes)
			return nil
		}
		from := int(s.Stats().Accepted)
		for n := from; n < from+12; n++ {
			if err := add(n, 3000, n%3 == 0); err != nil {
				return err
			}
		}
		// Beside its record, and in whole blocks past the kernel's cache.
		if err := errors.Join(add(from+12, 100<<10, false), add(from+13, 60<<10, false)); err != nil {
			return err
		}
		for n := range 8 {
			e := sample(from + 14 + n)
			e.Inputs[0].Data = make([]byte, 40<<10)
			if err := s.Put(e); err != nil {
				return err
			}
		}
		if err := s.Flush(context.Background()); err != nil {
			return err
		}
		promise("what was put")
		for _, g := range s.Segments()[:2] {
			if err := s.Acknowledge(g.Number, Outcome{}); err != nil {
				return err
			}
			promise("segment %d has left", g.Number)
		}
		if err := s.Close(); err != nil {
			return err
		}
		fmt.Println(disktrace.Marker + "all")
	}
	return nil
}

// What the power-loss test shows of the code above the file system, this shows of that which calls it: when a record is acknowledged, or has left, the
// kernel was made to write down all that says so, on a real file system.
func TestAcknowledgedIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	disktrace.Check(t, dir, disktrace.Self(t, envTraced+"="+dir), 2*18)
	if _, err := os.Stat(filepath.Join(dir, "var", "spool", headA)); err != nil {
		t.Error(err)
	}
}

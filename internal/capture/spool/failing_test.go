package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/capture"
)

// impatient tries again at once after a failure.
func (s *Spool) impatient() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notYet = time.Time{}
}

// Every call of the disk fails in turn, once: nothing that was acknowledged is lost, the
// accounts add up, and the next record is accepted, without a restart and after one.
func TestEachCallFails(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		for fail := 0; ; fail++ {
			m := newMemFS()
			calls := 0
			what := ""
			m.before = func(op, name string) error {
				if calls++; calls == fail+1 {
					what = op + " " + name
					return cause
				}
				return nil
			}
			options := Options{FS: m, SegmentBytes: 1500, SegmentAge: time.Hour, BesideBytes: 1024}
			s, err := Open(options)
			if err != nil {
				if !errors.Is(err, cause) {
					t.Fatal(err)
				}
				if s, err = Open(options); err != nil {
					t.Fatalf("%s failed once, and the spool does not open: %v", what, err)
				}
			}
			acked := map[string]bool{}
			left := int64(0)
			try := func(e *capture.Entry) {
				err := s.Append(context.Background(), e)
				switch {
				case err == nil:
					acked[e.Parts[0].Inference] = true
				case errors.Is(cause, syscall.EIO) && !errors.Is(err, ErrDisk) || !errors.Is(cause, syscall.EIO) && !errors.Is(err, ErrFull):
					t.Fatalf("%s failed with %v, and the caller was told %v", what, cause, err)
				}
				s.impatient()
			}
			for n := range 24 {
				switch e := sample(n); n % 8 {
				case 3:
					try(explicit(n))
				case 5:
					e.Inputs[0].Data = make([]byte, 1100)
					try(e)
				default:
					try(e)
				}
				if all := s.Segments(); n%10 == 9 && len(all) > 0 {
					before := s.Stats().Uploaded
					if err := s.Acknowledge(all[0].Number, Outcome{}); err == nil {
						left += s.Stats().Uploaded - before
					} else if !errors.Is(err, cause) {
						t.Fatalf("%s failed: %v", what, err)
					}
				}
				s.Stats().adds(t)
			}
			s.impatient()
			err = s.Append(context.Background(), sample(1000))
			if err != nil && calls > fail { // this was the call that failed
				s.impatient()
				err = s.Append(context.Background(), sample(1000))
			}
			if err != nil {
				t.Fatalf("after %s failed once, nothing is accepted: %v", what, err)
			}
			_ = s.Close() // the call that fails may be one of its own
			made := calls
			m.before = nil
			again := open(t, options)
			st := again.Stats()
			st.adds(t)
			names := map[string]int{}
			for _, r := range again.readAll(func(err error) {
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("after %s failed: %v", what, err)
				}
			}) {
				names[r.Inference]++
				if at := r.Inputs[0].Beside; at != nil {
					if _, err := again.Beside(at); err != nil {
						t.Fatalf("after %s failed: %v", what, err)
					}
				}
			}
			there := 0
			for name := range acked {
				if names[name] > 1 {
					t.Fatalf("after %s failed, %s is there %d times", what, name, names[name])
				}
				there += names[name]
			}
			gone := st.Uploaded + st.Dropped.Total()
			if int64(len(acked)-there) > gone || st.Uploaded < left || st.Quarantined != 0 || names["s1000"] != 1 {
				t.Fatalf("after %s failed: %d of %d acknowledged records are there, %d have left; %+v", what, there, len(acked), left, st)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			if made <= fail {
				break
			}
		}
	}
}

// The disk is full for a while: all that comes is refused, quickly and counted, and once
// there is room it is accepted again.
func TestDiskFull(t *testing.T) {
	m := newMemFS()
	var mu sync.Mutex
	full := false
	m.before = func(op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		if full && (op == "write" || op == "create") {
			return syscall.ENOSPC
		}
		return nil
	}
	set := func(v bool) {
		mu.Lock()
		defer mu.Unlock()
		full = v
	}
	s := open(t, Options{FS: m, WhenFull: DropNewest})
	if err := s.Append(context.Background(), sample(0)); err != nil {
		t.Fatal(err)
	}
	set(true)
	for n := range 100 {
		if err := s.Append(context.Background(), sample(n)); !errors.Is(err, ErrFull) {
			t.Fatalf("append %d: %v", n, err)
		}
	}
	set(false)
	begun := time.Now()
	for s.Append(context.Background(), sample(1)) != nil {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("nothing is accepted 5 s after there was room")
		}
		time.Sleep(10 * time.Millisecond)
	}
	st := s.Stats()
	st.adds(t)
	if st.Accepted != 2 || st.OnDisk != 2 || st.Refused.Full < 100 || st.Refused.Disk+st.Refused.Busy != 0 {
		t.Errorf("%+v", st)
	}
}

// TestDiskSmallerThanTheQuota shows that the oldest records make room for the next, and that the log says what they had to make it on.
func TestDiskSmallerThanTheQuota(t *testing.T) {
	m := newMemFS()
	var full atomic.Bool
	m.before = func(op, name string) error {
		if op == "write" && strings.HasSuffix(name, extSegment) && full.Swap(false) {
			return syscall.ENOSPC
		}
		return nil
	}
	var said strings.Builder
	s := open(t, Options{FS: m, WhenFull: DropOldest, SegmentAge: time.Hour, Log: slog.New(slog.NewTextHandler(&said, nil))})
	for n := range 2 {
		if err := s.Append(context.Background(), sample(n)); err != nil {
			t.Fatal(err)
		}
		full.Store(n == 0)
	}
	if st := s.Stats(); st.Accepted != 2 || st.OnDisk != 1 || st.Dropped.Quota != 1 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil { // after which nobody writes to the log
		t.Fatal(err)
	}
	if strings.Count(said.String(), "the disk is full before the capture spool is") != 1 {
		t.Errorf("the log says %s", &said)
	}
}

// A batch of which a part got to a disk that was full, or failed, was never accepted: its remains are no damage, in this process or the
// next. What was accepted and has rotted in the same place is.
func TestRefusedBatchIsNoDamage(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		m := newMemFS()
		options := Options{FS: m, SegmentAge: time.Hour, WhenFull: DropNewest}
		s := open(t, options)
		put := func(n int) error { return s.Append(context.Background(), sample(n)) }
		if err := put(0); err != nil {
			t.Fatal(err)
		}
		m.before = func(op, name string) error {
			if op == "write" && strings.HasSuffix(name, extSegment) {
				return cause
			}
			return nil
		}
		if err := put(1); err == nil {
			t.Fatal("the disk fails, and the record is accepted")
		}
		m.before = nil
		s.impatient()
		if err := put(2); err != nil {
			t.Fatal(err)
		}
		first := s.Segments()[0]
		whole := m.names[segmentName(first.Number, s.segments[0].salt)]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		read := func(s *Spool, damages int64) {
			t.Helper()
			records := s.readAll(func(err error) {
				if damages == 0 {
					t.Error(err)
				}
			})
			st := s.Stats()
			st.adds(t)
			if int64(len(records)) != 2-damages || st.DamagedRanges != damages || st.Quarantined != damages || st.Accepted != 2 {
				t.Errorf("%v: %d records; %+v", cause, len(records), st)
			}
		}
		read(s, 0)
		read(open(t, options), 0)
		for at := len(whole.now) - 1; at > headerSize; at-- { // to the last byte of the batch that was accepted
			if string(whole.now[at-3:at+1]) == string(batchMagic[:]) {
				whole.now[at-40] ^= 1
				break
			}
		}
		read(open(t, options), 1)
	}
}

// Each policy keeps to the quota, and counts what it costs.
func TestPolicies(t *testing.T) {
	for p := range policies {
		t.Run(p.String(), func(t *testing.T) {
			m := newMemFS()
			s := open(t, Options{FS: m, WhenFull: p, MaxBytes: 16 << 10, SegmentBytes: 2 << 10, BesideBytes: 1 << 10, SegmentAge: time.Hour})
			refused := 0
			for n := range 300 {
				err := s.Append(context.Background(), sample(n))
				if err != nil && !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
				if err != nil {
					refused++
				}
				st := s.Stats()
				st.adds(t)
				if st.Bytes > st.Limit {
					t.Fatalf("%d bytes of %d", st.Bytes, st.Limit)
				}
			}
			st := s.Stats()
			if p == DropOldest {
				if refused != 0 || st.Dropped.Quota == 0 || st.Accepted != 300 {
					t.Errorf("%d refused; %+v", refused, st)
				}
				records := s.readAll(func(err error) { t.Error(err) })
				if last := records[len(records)-1].Inference; last != "s299" {
					t.Errorf("the newest record is %s", last)
				}
				return
			}
			if refused == 0 || int(st.Refused.Full) != refused || st.Dropped.Total() != 0 || int(st.Accepted) != 300-refused || st.Stopped != (p == Stop) {
				t.Errorf("%d refused; %+v", refused, st)
			}
			if err := s.Acknowledge(s.Segments()[0].Number, Outcome{}); err != nil {
				t.Fatal(err)
			}
			if err := s.Append(context.Background(), sample(300)); (err == nil) != (p == DropNewest) {
				t.Errorf("with room again: %v", err)
			}
			s.Resume()
			if err := s.Append(context.Background(), sample(301)); err != nil {
				t.Errorf("after it was resumed: %v", err)
			}
		})
	}
}

// A disk that cannot be written at all is no reason to lose what is on it, or to spin.
func TestReadOnlyDisk(t *testing.T) {
	m, before := filled(t)
	m.before = func(op, name string) error {
		if strings.HasPrefix(op, "sync") {
			return nil
		}
		return fmt.Errorf("%s %s: %w", op, name, syscall.EROFS)
	}
	s := open(t, Options{FS: m})
	if err := s.Append(context.Background(), sample(0)); !errors.Is(err, ErrDisk) {
		t.Errorf("appending: %v", err)
	}
	if n := len(s.readAll(func(err error) { t.Error(err) })); int64(n) != before.OnDisk {
		t.Errorf("%d records, want %d", n, before.OnDisk)
	}
	if err := s.Acknowledge(s.Segments()[0].Number, Outcome{}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("acknowledging: %v", err)
	}
	s.Stats().adds(t)
}

// A disk that cannot be read keeps what is on it waiting for a while, because it may come back; after that, what can be read is delivered, and the rest counts
// as damaged. None of it is in the way of what comes behind, or of a start.
func TestUnreadable(t *testing.T) {
	const patience = 50 * time.Millisecond
	// The bytes of the file of one segment that cannot be read, and how many of its records that costs at most.
	for name, test := range map[string]struct {
		opens    bool
		from, to int64
		most     int
	}{
		"a file that does not open": {false, 0, 0, 20},
		"a file without a block":    {true, 0, 1 << 30, 20},
		"the first block":           {true, 0, 1, 7},
		"a block in the middle":     {true, 2 * block, 2*block + 1, 7},
		"the last byte":             {true, 4*block - 1, 1 << 30, 7},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", name, restart), func(t *testing.T) {
				m := newMemFS()
				options := Options{FS: m, SegmentBytes: 16 << 10, SegmentAge: time.Hour, readPatience: patience}
				s := open(t, options)
				for n := range 60 {
					e := sample(n)
					e.Inputs[0].Data = make([]byte, 700)
					if err := s.Append(context.Background(), e); err != nil {
						t.Fatal(err)
					}
				}
				first := s.Segments()[0]
				hit := segmentName(first.Number, s.segments[0].salt)
				m.mu.Lock()
				m.reads = func(name string, at int64, n int) error {
					if name == hit && (n == 0 && !test.opens || at < test.to && test.from < at+int64(n)) {
						return syscall.EIO
					}
					return nil
				}
				m.mu.Unlock()
				if restart {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, options)
				}
				accepted := s.Stats().Accepted
				g := s.Segments()[0]
				err := firstError(s, g)
				if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrDamaged) {
					t.Fatalf("at first it is %v, want an error of the disk that may pass", err)
				}
				time.Sleep(patience)
				if err := firstError(s, g); !errors.Is(err, ErrDamaged) {
					t.Fatalf("after a while it is %v, want damage", err)
				}
				records := s.readAll(func(err error) {
					if !errors.Is(err, ErrDamaged) {
						t.Errorf("%v", err)
					}
				})
				st := s.Stats()
				st.adds(t)
				if st.Accepted != accepted || st.DamagedRanges == 0 || int64(len(records)) != st.OnDisk || st.Quarantined == 0 || st.Quarantined > int64(test.most) {
					t.Errorf("%d records; %+v", len(records), st)
				}
				if err := s.Acknowledge(g.Number, Outcome{}); err != nil {
					t.Fatal(err)
				}
				if err := s.Append(context.Background(), sample(100)); err != nil {
					t.Fatal(err)
				}
				s.Stats().adds(t)
			})
		}
	}
}

// firstError reads a segment to its end.
func firstError(s *Spool, g Segment) (first error) {
	for _, err := range s.Batches(g) {
		if first == nil {
			first = err
		}
	}
	return first
}

// A file that somebody has removed, of a segment or of a tensor beside it, is damage at once, and keeps nothing behind it waiting.
func TestRemovedFiles(t *testing.T) {
	m := newMemFS()
	s := open(t, Options{FS: m, SegmentBytes: 4 << 10, SegmentAge: time.Hour, BesideBytes: 1 << 10})
	for n := range 30 {
		e := sample(n)
		e.Inputs[0].Data = make([]byte, 500)
		if n == 0 {
			e.Inputs[0].Data = make([]byte, 2000)
		}
		if err := s.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	all := s.Segments()
	var beside *capture.Beside
	for b, err := range s.Batches(all[0]) {
		if err != nil {
			t.Fatal(err)
		}
		if at := b.Records[0].Inputs[0].Beside; at != nil {
			beside = at
		}
	}
	m.mu.Lock()
	for name := range m.names {
		if strings.HasSuffix(name, extBig) || strings.HasPrefix(name, fmt.Sprintf("%016x", all[1].Number)) && strings.HasSuffix(name, extSegment) {
			delete(m.names, name)
		}
	}
	m.mu.Unlock()
	if _, err := s.Beside(beside); !errors.Is(err, ErrDamaged) {
		t.Errorf("the tensor: %v, want damage", err)
	}
	if err := firstError(s, all[1]); !errors.Is(err, ErrDamaged) {
		t.Errorf("the segment: %v, want damage", err)
	}
	if err := firstError(s, all[2]); err != nil {
		t.Errorf("the next segment: %v", err)
	}
	st := s.Stats()
	st.adds(t)
	if st.Quarantined != all[1].Records || st.DamagedRanges != 1 {
		t.Errorf("%+v, want %d records quarantined", st, all[1].Records)
	}
	if err := s.Acknowledge(all[2].Number, Outcome{}); err != nil {
		t.Fatal(err)
	}
	s.Stats().adds(t)
}

// The clock jumps: to before 1970 and years ahead. Nothing is dropped for its age that
// has not waited so long by any account.
func TestClockJumps(t *testing.T) {
	m := newMemFS()
	now := time.Unix(1_700_000_000, 0)
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	set := func(to time.Time) {
		mu.Lock()
		defer mu.Unlock()
		now = to
	}
	options := Options{FS: m, MaxAge: time.Hour, SegmentBytes: 400, SegmentAge: time.Hour, Now: clock}
	s := open(t, options)
	for n, at := range []time.Time{now, time.Unix(0, 0), now.AddDate(20, 0, 0), now.Add(-time.Minute), now} {
		set(at)
		for i := range 3 {
			if err := s.Append(context.Background(), sample(3*n+i)); err != nil {
				t.Fatal(err)
			}
		}
		s.dropAged()
	}
	if st := s.Stats(); st.OnDisk != 15 {
		t.Errorf("while it ran: %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options)
	s.dropAged()
	if st := s.Stats(); st.OnDisk != 15 {
		t.Errorf("after a restart: %+v", st)
	}
	// Those from before the clock was set wait as long as the process, and so do those
	// behind them: what is dropped is always what is oldest.
	set(now.Add(2 * time.Hour))
	s.dropAged()
	st := s.Stats()
	st.adds(t)
	if st.Dropped.Age == 0 || st.OnDisk == 0 {
		t.Errorf("two hours later: %+v", st)
	}
}

// A segment that is dropped while it is read is said to be gone, and counts once.
func TestDroppedWhileRead(t *testing.T) {
	s := open(t, Options{FS: newMemFS(), MaxBytes: 8 << 10, SegmentBytes: 1 << 10, BesideBytes: 1 << 10, SegmentAge: time.Hour})
	for n := range 10 {
		if err := s.Append(context.Background(), sample(n)); err != nil {
			t.Fatal(err)
		}
	}
	g, err := s.Next(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if err := s.Append(context.Background(), sample(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range s.Batches(g) {
		if !errors.Is(err, ErrGone) {
			t.Errorf("reading: %v", err)
		}
	}
	if err := s.Acknowledge(g.Number, Outcome{}); !errors.Is(err, ErrGone) {
		t.Errorf("acknowledging: %v", err)
	}
	if st := s.Stats(); st.Uploaded != 0 || st.Dropped.Quota == 0 {
		t.Errorf("%+v", st)
	}
	s.Stats().adds(t)
}

// Withheld records count as dropped by the policy.
func TestWithheld(t *testing.T) {
	s := open(t, Options{FS: newMemFS(), SegmentBytes: 1 << 10, SegmentAge: time.Hour})
	for n := range 10 {
		if err := s.Append(context.Background(), sample(n)); err != nil {
			t.Fatal(err)
		}
	}
	g := s.Segments()[0]
	if err := s.Acknowledge(g.Number, Outcome{Withheld: g.Records + 1}); err == nil {
		t.Error("more were withheld than there are")
	}
	if err := s.Acknowledge(g.Number, Outcome{Withheld: 2}); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Dropped.Policy != 2 || st.Uploaded != g.Records-2 {
		t.Errorf("%+v", st)
	}
	s.Stats().adds(t)
}

// A directory belongs to one process, and a reader needs none.
func TestOwnership(t *testing.T) {
	dir := t.TempDir() + "/deep/spool"
	s := open(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrOwned) {
		t.Errorf("opening it twice: %v", err)
	}
	if err := s.Append(context.Background(), sample(1)); err != nil {
		t.Fatal(err)
	}
	r := open(t, Options{Dir: dir, ReadOnly: true})
	if st := r.Stats(); st.OnDisk != 1 || st.Accepted != 1 {
		t.Errorf("a reader sees %+v", st)
	}
	if err := r.Append(context.Background(), sample(2)); !errors.Is(err, ErrDisk) {
		t.Errorf("a reader appends: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(context.Background(), sample(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("appending to a closed one: %v", err)
	}
	if _, err := Open(Options{Dir: t.TempDir() + "/none", ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading one that is not there: %v", err)
	}
}

// large is a sample with a tensor of that many bytes.
func large(n, bytes int) *capture.Entry {
	e := sample(n)
	e.Inputs[0].Shape, e.Inputs[0].Data = []int64{1, int64(bytes / 4)}, make([]byte, bytes)
	return e
}

// TestTensorsStayWithTheirRecords: a segment whose age is over, or that is dropped for the room that a large tensor needs, does not
// take the tensors of records along that come to lie in the next.
func TestTensorsStayWithTheirRecords(t *testing.T) {
	put := func(s *Spool, e *capture.Entry) {
		t.Helper()
		if err := s.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	flush := func(s *Spool) {
		t.Helper()
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	whole := func(s *Spool) {
		t.Helper()
		s.Verify(func(err error) { t.Error(err) })
	}
	t.Run("a segment that is old", func(t *testing.T) {
		s := open(t, Options{FS: newMemFS(), BesideBytes: 1 << 10, SegmentAge: 20 * time.Millisecond, FlushAfter: time.Hour})
		put(s, sample(1))
		flush(s)
		s.mu.Lock()
		sealed := s.sealed
		s.mu.Unlock()
		put(s, large(2, 8<<10))
		<-sealed
		flush(s)
		if err := s.Acknowledge(s.Segments()[0].Number, Outcome{}); err != nil {
			t.Fatal(err)
		}
		whole(s)
	})
	t.Run("a segment that is dropped", func(t *testing.T) {
		s := open(t, Options{FS: newMemFS(), MaxBytes: 64 << 10, BesideBytes: 1 << 10, SegmentAge: time.Hour, FlushAfter: time.Hour})
		for n := range 20 {
			put(s, sample(2*n))
			put(s, large(2*n+1, 20<<10))
			whole(s)
		}
		flush(s)
		whole(s)
		if st := s.Stats(); st.Dropped.Quota == 0 || st.Accepted != 40 || st.Bytes > st.Limit {
			t.Errorf("40 records in a spool of three of the large ones: %+v", st)
		}
	})
}

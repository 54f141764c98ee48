package spool

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// envDamage, if it is set, has TestDamageAtEveryByte try every byte, and not one of some.
const envDamage = "PICKET_TEST_EVERY_BYTE"

var update = flag.Bool("update", false, "write the golden spool anew")

// clone is a copy of the files, all durable.
func (m *memFS) clone() *memFS {
	out := newMemFS()
	for name, f := range m.names {
		b := bytes.Clone(f.now)
		out.names[name] = &memFile{now: b, synced: b}
		out.durable[name] = out.names[name]
	}
	return out
}

// filled is a closed spool of a little more than 64 KiB, in several segments, of which
// one has left.
func filled(t *testing.T) (*memFS, Stats) {
	t.Helper()
	m := newMemFS()
	s := open(t, Options{FS: m, SegmentBytes: 16 << 10, SegmentAge: time.Hour})
	for n := range 350 {
		e := sample(n)
		if n%50 == 0 {
			e = explicit(n)
		}
		if err := s.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Acknowledge(s.Segments()[0].Number, Outcome{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return m, s.Stats()
}

// Whatever byte is changed, wherever a file is cut off, and whichever file is missing:
// the spool opens, what was hit is set aside and counted, the rest is there, and the
// accounts add up.
func TestDamageAtEveryByte(t *testing.T) {
	m, before := filled(t)
	total := 0
	check := func(what string, hit *memFS, lost int, wantCopy bool) {
		total++
		s, err := Open(Options{FS: hit})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer s.Close()
		records := s.readAll(func(err error) {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s: %v", what, err)
			}
		})
		st := s.Stats()
		st.adds(t)
		if int64(len(records)) != st.OnDisk || st.Accepted != before.Accepted || st.Uploaded != before.Uploaded {
			t.Fatalf("%s: %d records; %+v", what, len(records), st)
		}
		if gone := before.OnDisk - st.OnDisk; gone > int64(lost) || gone != st.Quarantined {
			t.Fatalf("%s: %d records are gone, at most %d were hit; %+v", what, gone, lost, st)
		}
		if wantCopy && st.DamagedRanges == 0 {
			t.Fatalf("%s: the damage was not noticed", what)
		}
		if int64(len(s.Quarantined())) != st.DamagedRanges {
			t.Fatalf("%s: %d ranges are damaged, %d are set aside", what, st.DamagedRanges, len(s.Quarantined()))
		}
		if !slices.IsSortedFunc(records, func(a, b captureRecord) int { return int(a.ID.Sequence) - int(b.ID.Sequence) }) {
			t.Fatalf("%s: the records are out of order", what)
		}
	}
	step := 1
	if os.Getenv(envDamage) == "" {
		step = 53 // every byte takes two minutes
	}
	for name, f := range m.names {
		records := 1
		for at := 0; at < len(f.now); at += step {
			hit := m.clone()
			hit.names[name].now[at] ^= 1 << (at % 8)
			// What became of ids is known a second time, from their segment.
			check(fmt.Sprintf("byte %d of %s", at, name), hit, records, !strings.Contains(name, "."+"ids") && !strings.HasSuffix(name, extDone))
		}
		for at := 0; at < len(f.now); at += step {
			hit := m.clone()
			hit.names[name].now = hit.names[name].now[:at]
			check(fmt.Sprintf("%s cut at %d", name, at), hit, countIn(f.now[at:]), false)
		}
		hit := m.clone()
		delete(hit.names, name)
		check(name+" missing", hit, countIn(f.now), false)
	}
	t.Logf("%d damages", total)
}

// countIn is how many batches begin, or end, in the bytes; each has one record.
func countIn(b []byte) int { return bytes.Count(b, batchMagic[:]) + 1 }

// Both copies of the head are damaged: the spool opens, and counts what it can.
func TestBothHeadsDamaged(t *testing.T) {
	m, before := filled(t)
	m.names[headA].now[40] ^= 1
	m.names[headB].now[41] ^= 1
	s := open(t, Options{FS: m})
	st := s.Stats()
	st.adds(t)
	if st.OnDisk != before.OnDisk || st.Accepted != before.Accepted || st.Dropped.Lost != before.Uploaded || st.Uploaded != 0 {
		t.Errorf("%+v", st)
	}
}

// The spool that the first version wrote opens for ever.
func TestGoldenSpool(t *testing.T) {
	const dir = "testdata/golden/v1"
	if *update {
		writeGolden(t, dir)
	}
	m := newMemFS()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		m.names[f.Name()] = &memFile{now: b, synced: b}
	}
	s := open(t, Options{FS: m})
	records := s.readAll(func(err error) { t.Error(err) })
	st := s.Stats()
	if len(records) != 9 || st.Accepted != 12 || st.Uploaded != 3 || st.OnDisk != 9 {
		t.Fatalf("%d records; %+v", len(records), st)
	}
	for i, r := range records {
		n := i + 3
		want := sample(n).Record
		if n%4 == 0 {
			want = explicit(n).Record
			want.Inference = fmt.Sprintf("e%d", n)
		}
		got := fmt.Sprintf("%s %v %s %s %v %d %v", r.Inference, r.Time.UnixNano(), r.Model, r.Version, r.Kind, r.ID.Sequence, r.Outputs[0].Data)
		if said := fmt.Sprintf("%s %v %s %s %v %d %v", want.Inference, want.Time.UnixNano(), want.Model, want.Version, want.Kind, n+1, want.Outputs[0].Data); got != said {
			t.Errorf("record %d is %s, want %s", n, got, said)
		}
		if at := r.Inputs[0].Beside; (n == 5) != (at != nil) {
			t.Errorf("record %d: %v", n, at)
		} else if at != nil {
			if b, err := s.Beside(at); err != nil || len(b) != 3000 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		}
	}
	if s.Known("e0") != left || s.Known("e8") != waiting {
		t.Error("the ids are not known")
	}
}

func writeGolden(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := newMemFS()
	s := open(t, Options{FS: m, SegmentBytes: 1 << 20, BesideBytes: 2048, SegmentAge: time.Hour, Now: func() time.Time { return time.Unix(1_700_000_000, 0) }})
	for n := range 12 {
		e := sample(n)
		if n%4 == 0 {
			e = explicit(n)
		}
		if n == 5 {
			e.Inputs[0].Data = make([]byte, 3000)
		}
		if err := s.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
		if n == 2 || n == 7 {
			s.disk.Lock()
			if err := s.seal(); err != nil {
				t.Error(err)
			}
			s.disk.Unlock()
		}
	}
	if err := errors.Join(s.Acknowledge(1, Outcome{}), s.Close()); err != nil {
		t.Fatal(err)
	}
	for name, f := range m.names {
		if err := os.WriteFile(filepath.Join(dir, name), f.now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

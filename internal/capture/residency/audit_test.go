package residency

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func testPolicy(t *testing.T, version string) *Policy {
	t.Helper()
	p, err := New(Options{Version: version, Metrics: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// appendObjects enters n objects that were sent and stored.
func appendObjects(t *testing.T, a *Audit, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		e := Entry{Event: Sending, Object: fmt.Sprintf("s3://b/%d", i), Bytes: 10, Kind: "edge", Spool: "a", Segment: uint64(i), Records: "1-3,7", Count: 4}
		if _, err := a.Append(e); err != nil {
			t.Fatal(err)
		}
		e.Event = Stored
		if _, err := a.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(dir string) (Summary, int, error) {
	lines := 0
	s, err := VerifyAudit(dir, func(Entry) error { lines++; return nil })
	return s, lines, err
}

func TestAuditGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	p := testPolicy(t, "1")
	for life := range 3 {
		a := NewAudit(dir)
		if err := a.Begin(p); err != nil {
			t.Fatal(err)
		}
		appendObjects(t, a, 10*life, 5)
		n, hash := a.Head()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		s, lines, err := verify(dir)
		if err != nil || s.Last != n || s.Hash != hash || lines != 1+10*(life+1) || s.First != 1 || s.Torn {
			t.Fatalf("life %d: %+v, %d lines, head %d %s: %v", life, s, lines, n, hash, err)
		}
	}
	a := NewAudit(dir)
	defer a.Close()
	if err := a.Begin(testPolicy(t, "2")); err != nil {
		t.Fatal(err)
	}
	if n, _ := a.Head(); n != 32 {
		t.Errorf("another policy is line %d", n)
	}
	if _, err := a.Append(Entry{Event: Sending, Object: "s3://b/x"}); err != nil {
		t.Fatal(err)
	}
	if un := a.Unstored(); len(un) != 1 || un[0].Object != "s3://b/x" {
		t.Errorf("unstored: %+v", un)
	}
	stored := a.Stored("a", 24)["edge"]
	for n, want := range map[uint64]bool{0: false, 1: true, 3: true, 4: false, 7: true, 8: false} {
		if stored.Has(n) != want {
			t.Errorf("record %d of the segment under way is stored: %v", n, !want)
		}
	}
	if a.Stored("b", 24)["edge"].Has(1) || a.Stored("a", 24)["parquet"].Has(1) || a.Stored("a", 23)["edge"].Has(1) {
		t.Error("what another spool, format or finished segment has counts")
	}
}

// Whichever byte of the log is changed, and wherever it is cut, verification says so; and
// what is cut in the middle of the last line goes on.
func TestAuditDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	a := NewAudit(dir)
	if err := a.Begin(testPolicy(t, "1")); err != nil {
		t.Fatal(err)
	}
	appendObjects(t, a, 0, 3)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "audit-0000000000000001.jsonl")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		changed := append([]byte(nil), whole...)
		changed[i] ^= 0x04
		if err := os.WriteFile(name, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := verify(dir)
		if err == nil && (i != len(whole)-1 || !s.Torn) {
			t.Fatalf("a changed byte %d of %d is not found: %+v", i, len(whole), s)
		}
	}
	last := strings.LastIndex(string(whole[:len(whole)-1]), "\n") + 1
	for _, cut := range []int{last + 1, last + 40, len(whole) - 1} {
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if s, _, err := verify(dir); err != nil || !s.Torn || s.Last != 6 {
			t.Errorf("cut at %d: %+v, %v", cut, s, err)
		}
		a := NewAudit(dir)
		if err := a.Begin(testPolicy(t, "1")); err != nil {
			t.Errorf("cut at %d, it does not go on: %v", cut, err)
		}
		if un := a.Unstored(); len(un) != 1 || un[0].Object != "s3://b/2" {
			t.Errorf("cut at %d: unstored %+v", cut, un)
		}
		a.Close()
		if s, _, err := verify(dir); err != nil || s.Torn {
			t.Errorf("cut at %d and gone on: %+v, %v", cut, s, err)
		}
	}
	// Damage before the end is no torn line: nothing may leave.
	changed := append([]byte(nil), whole...)
	changed[len(changed)/2] ^= 1
	if err := os.WriteFile(name, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	a = NewAudit(dir)
	defer a.Close()
	if _, err := a.Append(Entry{Event: Sending, Object: "s3://b/x"}); err == nil || !strings.Contains(err.Error(), "nothing may leave") {
		t.Errorf("a damaged log goes on: %v", err)
	}
}

func TestAuditLinesTakenOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	a := NewAudit(dir)
	appendObjects(t, a, 0, 4)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "audit-0000000000000001.jsonl")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(whole), ""), "\n")
	for _, out := range []int{0, 3, 6} {
		left := strings.Join(append(append([]string{}, lines[:out]...), lines[out+1:]...), "")
		if err := os.WriteFile(name, []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := verify(dir); err == nil {
			t.Errorf("line %d is gone and nobody notices", out+1)
		}
	}
	swapped := append([]string{}, lines...)
	swapped[2], swapped[3] = swapped[3], swapped[2]
	if err := os.WriteFile(name, []byte(strings.Join(swapped, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := verify(dir); err == nil {
		t.Error("two lines are swapped and nobody notices")
	}
}

// Several processes, here several logs on one directory, take turns; files begin anew.
func TestAuditIsShared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	const writers, each = 4, 25
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			a := NewAudit(dir)
			a.rotateAt = 4 << 10
			defer a.Close()
			for i := range each {
				e := Entry{Event: Sending, Object: fmt.Sprintf("s3://%d/%d", w, i), Segment: uint64(i + 1)}
				if _, err := a.Append(e); err != nil {
					t.Error(err)
				}
				e.Event = Stored
				if _, err := a.Append(e); err != nil {
					t.Error(err)
				}
				if err := a.Settle(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	s, lines, err := verify(dir)
	if err != nil || lines != 2*writers*each || s.Sent != writers*each || s.Stored != writers*each {
		t.Errorf("%+v, %d lines: %v", s, lines, err)
	}
	// One alone rotates.
	a := NewAudit(dir)
	a.rotateAt = 1 << 10
	defer a.Close()
	appendObjects(t, a, 1000, 1)
	if err := a.Settle(); err != nil {
		t.Fatal(err)
	}
	appendObjects(t, a, 2000, 1)
	again, _, err := verify(dir)
	if err != nil || again.Files < 2 || again.Last != s.Last+4 {
		t.Errorf("after a new file: %+v: %v", again, err)
	}
	// Older files may be moved away, and no others.
	names, err := auditFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
		t.Fatal(err)
	}
	if s, _, err := verify(dir); err != nil || s.First == 1 {
		t.Errorf("without its first file: %+v: %v", s, err)
	}
}

// The log is gone, or another one is in its place: what follows goes into what is there.
func TestAuditTakenAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	a := NewAudit(dir)
	defer a.Close()
	appendObjects(t, a, 0, 1)
	if err := os.Remove(filepath.Join(dir, "audit-0000000000000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	appendObjects(t, a, 1, 1)
	if s, lines, err := verify(dir); err != nil || lines != 2 || s.Stored != 1 {
		t.Errorf("%+v, %d lines: %v", s, lines, err)
	}
}

func TestNumbers(t *testing.T) {
	for want, all := range map[string][]uint64{"": nil, "5": {5}, "1-3": {1, 2, 3}, "1-3,7,9-10": {1, 2, 3, 7, 9, 10}} {
		var n Numbers
		for _, v := range all {
			n.Add(v)
		}
		got := n.String()
		if got != want {
			t.Errorf("%v is %q, want %q", all, got, want)
		}
		spans, err := parseNumbers(got)
		if err != nil {
			t.Error(err)
		}
		var back []uint64
		for _, s := range spans {
			for v := s.First; v <= s.Last; v++ {
				back = append(back, v)
			}
		}
		if fmt.Sprint(back) != fmt.Sprint(all) {
			t.Errorf("%q is %v again", got, back)
		}
	}
	for _, bad := range []string{"x", "3-1", "1,1", "5,2", "1-", "-1", ","} {
		if _, err := parseNumbers(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A line is read as it was written, or refused.
func FuzzEntry(f *testing.F) {
	e := Entry{Number: 1, Previous: firstPrevious, Event: Sending, Object: "s3://b/k", Records: "1-2"}
	line, err := e.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line[:len(line)-1])
	f.Add([]byte(`{"n":1,"hash":"00"}`))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := decodeEntry(line)
		if err != nil {
			return
		}
		hash := e.Hash
		again, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeEntry(again[:len(again)-1])
		if err != nil || back.Number != e.Number || back.Object != e.Object || len(hash) != 64 {
			t.Fatalf("%q is read back as %+v: %v", line, back, err)
		}
	})
}

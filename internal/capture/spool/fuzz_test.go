package spool

import (
	"errors"
	"testing"
)

// Whatever a segment and the heads contain, the spool opens, what is read is in order,
// and the accounts add up.
func FuzzSegment(f *testing.F) {
	const name = "0000000000000001-0102030405060708.seg"
	h := segmentHeader{number: 1, salt: 0x0102030405060708, first: 1, spool: 5, made: 7}
	b := h.append(nil)
	e := sample(1)
	entry, err := e.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	for n := range uint64(2) {
		batch := appendEntryFrame(make([]byte, batchSize), len(entry), 1)
		batch = append(batch, entry...)
		header := batchHeader{salt: h.salt, first: 1 + n, records: 1}
		b = append(b, header.seal(batch, checksum(batch[batchSize:]))...)
	}
	heads := (&head{generation: 1, spool: 5, segment: 1, first: 1, next: 1}).append(nil)
	f.Add(b, heads)
	f.Add(b[:len(b)-9], heads[:50])
	f.Add(append([]byte{1, 2, 3, 4, 5, 6, 7, 8}, b...), []byte(nil))
	f.Fuzz(func(t *testing.T, segment, heads []byte) {
		m := newMemFS()
		for file, b := range map[string][]byte{name: segment, headA: heads, headB: heads} {
			m.names[file] = &memFile{now: b, synced: b}
		}
		s, err := Open(Options{FS: m})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		last := uint64(0)
		for _, r := range s.readAll(func(err error) {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrKey) {
				t.Fatal(err)
			}
		}) {
			if r.ID.Sequence <= last {
				t.Fatalf("record %d comes after %d", r.ID.Sequence, last)
			}
			last = r.ID.Sequence
		}
		s.Stats().adds(t)
	})
}

package spool

import (
	"errors"
	"io"
	"slices"
	"time"
)

// recover makes of the files what is known of them. It reads the newest segment and the
// headers of the others.
func (s *Spool) recover() error {
	files, err := s.fs.List()
	if err != nil {
		return err
	}
	found := map[uint64]*segment{}
	big := map[uint64][]FileInfo{}
	for _, f := range files {
		s.bytes += f.Size
		if m := saltedName.FindStringSubmatch(f.Name); m != nil {
			number := hexadecimal(m[1])
			if m[3] == extBig {
				big[number] = append(big[number], f)
			} else if g := found[number]; g == nil || g.bytes < f.Size { // two of one number are not ours
				found[number] = &segment{number: number, salt: hexadecimal(m[2]), bytes: f.Size, sealed: true}
			}
		} else if m := idsName.FindStringSubmatch(f.Name); m != nil {
			s.idFiles[hexadecimal(m[1])] = &idFile{ext: m[2], count: int(f.Size / 16)}
		} else if badName.MatchString(f.Name) {
			s.bad[f.Name] = f.Size
		}
	}
	for number, g := range found {
		for _, f := range big[number] {
			g.big += f.Size
		}
		s.segments = append(s.segments, g)
	}
	slices.SortFunc(s.segments, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	copies, err := s.readHead()
	if err != nil {
		return err
	}
	s.deletePassed(big)
	if err := s.measure(copies > 0); err != nil {
		return err
	}
	last := s.head.segment - 1
	if n := len(s.segments); n > 0 {
		last = max(last, s.segments[n-1].number)
	}
	s.plan = s.newPlan(last + 1)
	if s.o.ReadOnly {
		return nil
	}
	if err := s.takeBackIDs(); err != nil {
		return err
	}
	if copies < 2 {
		return s.makeHeads()
	}
	return nil
}

// readHead reads the better copy of the head, and tells how many are whole. Damaged ones
// are set aside.
func (s *Spool) readHead() (copies int, err error) {
	damaged := false
	for i, name := range [...]string{headA, headB} {
		b, err := s.readFile(name, headSize+1)
		if err != nil {
			if i == 0 {
				s.log.Debug("a copy of the capture spool's head is not there", "file", name, "error", err)
			}
			continue
		}
		var h head
		if !h.parse(b) {
			damaged = true
			if err := s.quarantine(0, i*headSize, b); err != nil {
				return 0, err
			}
			continue
		}
		if copies++; copies == 1 || h.generation > s.head.generation {
			s.head = h
		}
	}
	if copies == 0 {
		s.head = head{spool: random64(), segment: 1, first: 1, next: 1}
		if len(s.segments) > 0 {
			s.head.segment = s.segments[0].number
		}
		if damaged || len(s.segments) > 0 {
			s.log.Warn("both copies of the capture spool's head are damaged: what became of records that have left is not known any more")
		}
	}
	return copies, nil
}

// makeHeads makes the copies of the head anew, from what is in memory. It is done at the
// first start, and where a copy is missing or damaged; the other is whole then and is
// written last.
func (s *Spool) makeHeads() error {
	h := s.head
	h.next = max(h.next, s.next)
	h.generation++
	b := h.append(nil)
	for _, name := range [...]string{headA, headB} {
		whole := false
		if old, err := s.readFile(name, headSize+1); err == nil {
			var was head
			whole = was.parse(old)
		}
		if whole {
			continue
		}
		if err := s.fs.Remove(name); err != nil {
			return err
		}
		if err := s.writeFile(name, b); err != nil {
			return err
		}
	}
	if err := s.fs.Sync(); err != nil {
		return err
	}
	s.head = h
	return s.writeHead(h)
}

// deletePassed deletes what an earlier process did not get to: segments that the head
// has passed, and what lies beside them.
func (s *Spool) deletePassed(big map[uint64][]FileInfo) {
	n := 0
	for _, g := range s.segments {
		if g.number >= s.head.segment {
			break
		}
		n++
		if !s.o.ReadOnly {
			s.remove(g.name())
		}
	}
	s.segments = slices.Delete(s.segments, 0, n)
	for number, files := range big {
		for _, f := range files {
			if number < s.head.segment && !s.o.ReadOnly {
				s.remove(f.Name)
			}
		}
	}
}

// measure finds out which records the segments have.
func (s *Spool) measure(whole bool) error {
	for _, g := range s.segments {
		if err := s.readHeader(g); err != nil {
			return err
		}
	}
	// From the end: a segment ends where the next begins. The newest is read, and, where
	// that is one that was not got to be written, the one before.
	s.next = s.head.next
	after := uint64(0) // the first record of the segment that follows
	var sealed time.Time
	for _, g := range slices.Backward(s.segments) {
		if after > 0 {
			if g.first == 0 {
				g.first = after // it has no whole batch, nor a header
			}
			g.end, g.last, g.certain = after, sealed, true
		} else {
			scanned, err := s.scan(g, true)
			if err != nil {
				return err
			}
			if g.first == 0 {
				g.first = scanned.first
			}
			if g.first == 0 {
				continue // its numbers are those of the one before
			}
			g.end, g.last, g.ids = max(scanned.end, g.first), scanned.last, scanned.ids
			g.lost = g.end - g.first - scanned.records
			s.next = max(s.next, g.end)
		}
		after, sealed = g.first, g.made
	}
	// Headers that are damaged or lie are held to what is possible.
	at := s.head.first
	if !whole && len(s.segments) > 0 {
		// The head is new: what came before is not known.
		at = s.segments[0].first
		s.head.first, s.head.dropped[byLoss] = at, at-1
		s.head.next = max(s.head.next, at)
	}
	for _, g := range s.segments {
		g.first = max(g.first, at)
		g.end = max(g.end, g.first)
		at = g.end
	}
	s.next = max(s.next, at)
	s.head.next = max(s.head.next, s.head.first)
	return nil
}

// readHeader reads the header of a segment. Where it is damaged the segment is read
// whole, and its first batch says what it would have.
func (s *Spool) readHeader(g *segment) error {
	b := make([]byte, headerSize)
	f, err := s.fs.Open(g.name())
	if err == nil {
		_, err = f.ReadAt(b, 0)
		_ = f.Close() // it was only read
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.log.Warn("the header of a segment of the capture spool cannot be read", "segment", g.number, "error", err)
		clear(b)
	}
	var h segmentHeader
	if h.parse(b, g.number, g.salt) {
		g.first, g.made, g.last = h.first, timeOf(h.made), time.Time{}
		return nil
	}
	scanned, err := s.scan(g, true)
	if err != nil {
		return err
	}
	g.first, g.made = scanned.first, scanned.firstAt
	return nil
}

// takeBackIDs makes the files of ids those of their segments: a segment that is there
// has not been settled, whatever its file says, and the newest may have none yet.
func (s *Spool) takeBackIDs() error {
	for _, g := range s.segments {
		f := s.idFiles[g.number]
		if f != nil && f.ext != extIDs {
			if err := s.fs.Rename(idsFileName(g.number, f.ext), idsFileName(g.number, extIDs)); err != nil {
				return err
			}
			f.ext = extIDs
		}
		if len(g.ids) > 0 {
			keys := g.ids
			g.ids = nil
			if f != nil {
				if old, ok := s.idsOf(g.number); ok && len(old) == len(keys) {
					continue
				}
				s.remove(idsFileName(g.number, extIDs))
			}
			if err := s.writeIDs(g, keys); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Spool) idsOf(number uint64) ([]idKey, bool) {
	b, err := s.readFile(idsFileName(number, extIDs), maxSegmentFile)
	if err != nil {
		return nil, false
	}
	return parseIDs(b)
}

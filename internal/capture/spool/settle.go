package spool

import (
	"errors"
	"fmt"
	"time"
)

// Why records were dropped; the index of head.dropped.
const (
	byQuota = iota
	byAge
	byPolicy
	byLoss
)

// Acknowledge says that the records of all segments up to that number are where they
// should be: they count as uploaded, but for those that were withheld or unread, and the
// segments are deleted. It fails with ErrGone where they were dropped meanwhile.
func (s *Spool) Acknowledge(through uint64, o Outcome) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	h, n := s.head, 0
	uploaded, quarantined := uint64(0), uint64(0)
	at := h.first
	for _, g := range s.segments {
		if g.number > through || !g.sealed {
			break
		}
		n++
		quarantined += g.first - at + g.lost
		uploaded += g.end - g.first - g.lost
		at = g.end
	}
	var last *segment
	if n > 0 {
		last = s.segments[n-1]
	}
	closed := s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case last == nil || last.number != through:
		return fmt.Errorf("acknowledging segment %d: %w", through, ErrGone)
	case o.Withheld < 0 || o.Unread < 0 || uint64(o.Withheld)+uint64(o.Unread) > uploaded:
		return fmt.Errorf("acknowledging segment %d: %d and %d of its %d records cannot have been withheld and unread", through, o.Withheld, o.Unread, uploaded)
	}
	h.uploaded += uploaded - uint64(o.Withheld) - uint64(o.Unread)
	h.dropped[byPolicy] += uint64(o.Withheld)
	h.quarantined += quarantined + uint64(o.Unread)
	if err := s.settle(h, n, extDone); err != nil {
		return fmt.Errorf("acknowledging segment %d: %w", through, err)
	}
	return nil
}

// settle moves the head past the first n segments, durably, and then deletes them. h has
// the counters already. disk is held.
func (s *Spool) settle(h head, n int, ext string) error {
	s.mu.Lock()
	gone := append([]*segment(nil), s.segments[:n]...)
	last := gone[n-1]
	h.segment, h.first, h.next = last.number+1, last.end, s.next
	s.mu.Unlock()

	// What became of the ids is written down before it is so: a start that finds their
	// segment still there takes it back.
	if err := s.moveIDs(gone, ext); err != nil {
		return err
	}
	if err := s.writeHead(h); err != nil {
		return err
	}
	s.mu.Lock()
	s.segments = append(s.segments[:0], s.segments[n:]...)
	s.mu.Unlock()
	for _, g := range gone {
		s.delete(g)
	}
	s.forgetIDs()
	return nil
}

// delete deletes a segment that the head has passed, with what lies beside it. disk is
// held.
func (s *Spool) delete(g *segment) {
	if g.big > 0 {
		s.removeBeside(g.number)
	}
	s.remove(g.name())
}

// removeBeside removes what lies beside a segment that is gone, or was never made. disk
// is held.
func (s *Spool) removeBeside(number uint64) {
	files, err := s.fs.List()
	if err != nil {
		s.log.Warn("looking for what lies beside a segment: it is deleted at the next start", "error", err)
	}
	for _, f := range files {
		if m := saltedName.FindStringSubmatch(f.Name); m != nil && m[3] == extBig && hexadecimal(m[1]) == number {
			s.remove(f.Name)
		}
	}
}

// writeHead makes h what is settled: one copy after the other, so that a whole one is
// there at any moment. disk is held.
func (s *Spool) writeHead(h head) error {
	h.generation++
	b := h.append(nil)
	for _, name := range [...]string{headA, headB} {
		f, err := s.fs.OpenWrite(name)
		if err != nil {
			return err
		}
		if _, err = f.WriteAt(b, 0); err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.head = h
	s.mu.Unlock()
	return nil
}

// dropFirst drops the oldest segment, or fails with ErrFull where only the newest is
// left. disk is held.
func (s *Spool) dropFirst(why int) error {
	s.mu.Lock()
	if len(s.segments) == 0 || !s.segments[0].sealed {
		if s.active == nil || len(s.segments) == 0 {
			s.mu.Unlock()
			return fmt.Errorf("%w: there is nothing that could be dropped", ErrFull)
		}
		s.mu.Unlock()
		if err := s.seal(); err != nil {
			return err
		}
		s.mu.Lock()
	}
	g, h := s.segments[0], s.head
	h.quarantined += g.first - h.first + g.lost
	dropped := g.end - g.first - g.lost
	h.dropped[why] += dropped
	s.mu.Unlock()
	if err := s.settle(h, 1, extLost); err != nil {
		return err
	}
	s.log.Warn("captured records were dropped", "reason", [...]string{"quota", "age"}[why], "segment", g.number, "records", dropped, "from", g.made, "to", g.last)
	return nil
}

// firstCredible is a time before which no host has run this program: a clock that says
// less was not set.
var firstCredible = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// age is how long the newest record of g has waited. Segments of this process are
// measured by a clock that does not jump. Those of earlier ones have the time that was
// written down; where that is from before the clock was set, or from the future, they
// are as old as this process.
func (s *Spool) age(g *segment, now time.Time) time.Duration {
	here := time.Since(s.opened)
	switch {
	case !g.madeHere.IsZero():
		return time.Since(g.madeHere)
	case g.last.Before(firstCredible) || g.last.After(now) || now.Before(firstCredible):
		return here
	}
	return now.Sub(g.last)
}

// dropAged drops what has waited for longer than MaxAge.
func (s *Spool) dropAged() {
	s.disk.Lock()
	defer s.disk.Unlock()
	for {
		s.mu.Lock()
		due := !s.closed && len(s.segments) > 0 && s.segments[0].sealed && s.age(s.segments[0], s.o.Now()) > s.o.MaxAge
		s.mu.Unlock()
		if !due {
			return
		}
		if err := s.dropFirst(byAge); err != nil {
			s.log.Warn("dropping captured records that are too old", "error", err)
			return
		}
	}
}

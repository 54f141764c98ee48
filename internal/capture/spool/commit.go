package spool

import (
	"errors"
	"fmt"
	"time"
)

// run is the committer: it writes what is pending, seals segments that are old enough,
// and drops what is too old. At first it has the rooms in memory.
func (s *Spool) run(rooms ...[]byte) {
	defer close(s.done)
	due := s.o.Alarm()
	defer due.Close()
	for _, room := range rooms {
		fillRoom(room)
	}
	aged := time.Now()
	for {
		wait, closed := s.turn()
		if closed {
			return
		}
		if s.o.MaxAge > 0 && time.Since(aged) > min(agePause, s.o.MaxAge/10) {
			aged = time.Now()
			s.dropAged()
		}
		due.Set(wait)
		select {
		case <-s.wake:
		case <-due.C():
		}
	}
}

// turn does what is due and returns how long nothing will be, unless something comes.
func (s *Spool) turn() (wait time.Duration, closed bool) {
	for {
		s.disk.Lock()
		b, wait, ended := s.takeBatch()
		if b != nil {
			s.write(b)
			s.disk.Unlock()
			continue
		}
		if s.sealIsDue() {
			if err := s.seal(); err != nil {
				s.mu.Lock()
				_ = s.failed(err)
				s.mu.Unlock()
			}
		}
		s.disk.Unlock()
		return wait, ended
	}
}

// takeBatch takes the pending batch if it is due, and else says when to look again.
// disk is held.
func (s *Spool) takeBatch() (b *batch, wait time.Duration, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = agePause
	if s.active != nil {
		wait = max(time.Millisecond, s.o.SegmentAge-time.Since(s.active.madeHere))
	}
	now := time.Now()
	switch b = s.pending; {
	case b == nil:
		// While batches come it looks after each FlushAfter, so that whoever brings the first record of one need not wake it.
		if s.look = now.Add(s.o.FlushAfter); now.Sub(s.took) > looks*s.o.FlushAfter {
			s.look = time.Time{}
		}
	case b.urgent || s.closed || len(b.B) > enough || !s.look.IsZero() && !now.Before(s.look):
		s.pending, s.took, s.look = nil, now, now.Add(s.o.FlushAfter)
		return b, 0, false
	case s.look.IsZero():
		s.look = b.since.Add(s.o.FlushAfter)
	}
	if !s.look.IsZero() {
		wait = min(wait, max(0, s.look.Sub(now)))
	}
	return nil, wait, s.closed
}

func (s *Spool) sealIsDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active != nil && time.Since(s.active.madeHere) >= s.o.SegmentAge
}

// write makes a batch durable and tells those who wait. disk is held.
func (s *Spool) write(b *batch) {
	err := s.commit(b)
	if noSpace(err) && s.o.WhenFull == DropOldest && !b.big {
		// The disk is smaller than the quota: what waits the longest makes room.
		s.log.Warn("the disk is full before the capture spool is: the oldest records give way", "limit", s.o.MaxBytes, "error", err)
		if s.dropFirst(byQuota) == nil {
			err = s.commit(b)
		}
	}
	s.mu.Lock()
	if err != nil {
		err = s.failed(err)
		s.count(err, b.records)
		for _, id := range b.ids {
			delete(s.claimed, id)
		}
	}
	b.err = err
	tidyRoom(b.room, len(b.B))
	tidyRoom(s.sealRoom, len(b.B))
	s.ready = append(s.ready, newBatch(b.room))
	b.B, b.room = nil, nil
	s.mu.Unlock()
	close(b.done)
}

// commit writes a batch, to a new segment where there is none, and seals the segment
// when it is full. After an error nothing is written to that segment any more. disk is
// held.
func (s *Spool) commit(b *batch) error {
	if err := s.makeRoom(s.batchBytes(len(b.B)), b.big); err != nil {
		return err
	}
	s.mu.Lock()
	p, g, file, next := s.plan, s.active, s.file, s.next
	spool := s.head.spool
	s.mu.Unlock()

	now := s.o.Now()
	h := batchHeader{salt: p.salt, first: next, records: uint32(b.records), at: now.UnixNano()}
	var data []byte
	room := b.room
	if p.key != nil {
		h.flags |= flagSealed
		if s.sealRoom == nil {
			s.sealRoom = s.newRoom()
		}
		data = p.key.seal(s.sealRoom[block:], b.B, &h)
		data = h.seal(data, checksum(data[batchSize:]))
		room = s.sealRoom
	} else {
		b.SumUp()
		data = h.seal(b.B, b.Sum)
	}
	if len(data) >= s.o.blockFrom {
		data = fillBlock(data)
	}
	if p.key == nil {
		b.B = data[:len(b.B)] // without the padding
	}
	var at int64
	var err error
	if g == nil {
		g = &segment{number: p.number, salt: p.salt, first: next, end: next, made: now, last: now, key: p.key, madeHere: time.Now(), certain: true}
		file, err = s.begin(g, p, spool, data, room)
	} else {
		at = s.place(g.bytes, data)
		if _, err = file.WriteAt(data, at); err == nil {
			err = file.Sync()
		}
	}
	if err != nil {
		return errors.Join(err, s.abandon())
	}
	s.mu.Lock()
	if s.active == nil {
		s.active, s.file = g, file
		s.segments = append(s.segments, g)
	} else {
		s.bytes += at + int64(len(data)) - g.bytes
		g.bytes = at + int64(len(data))
	}
	g.big = s.plan.big
	g.end, g.last = next+uint64(b.records), now
	g.ids = append(g.ids, b.ids...)
	s.next = g.end
	s.batches++
	if !s.failing.IsZero() {
		s.failing = time.Time{}
		s.log.Info("the capture spool can be written again")
	}
	full := g.bytes >= s.o.SegmentBytes
	s.mu.Unlock()
	if full {
		// The batch is durable whatever becomes of sealing.
		if err := s.seal(); err != nil {
			s.log.Warn("sealing a segment of the capture spool", "error", err)
		}
	}
	return nil
}

// entryRoom is more than an entry takes beside its tensors as a rule.
const entryRoom = 512

// batchBytes is what a batch of such a payload takes at most, in a segment of its own.
func (s *Spool) batchBytes(payload int) int64 {
	n := int64(payload) + 2*headerSize
	if payload >= s.o.blockFrom {
		n += 2 * block
	}
	return n
}

// place is where a batch goes that comes after at: one of whole blocks at the next block. What is between stays zero, which readers
// pass by.
func (s *Spool) place(at int64, data []byte) int64 {
	if len(data) >= s.o.blockFrom {
		at = (at + block - 1) &^ (block - 1)
	}
	return at
}

// begin makes the file of a segment with its first batch, durable with its name. What is before the batch goes with it in one write where
// the batch lies in room, behind a block, and goes to the second block. disk is held.
func (s *Spool) begin(g *segment, p plan, spool uint64, first, room []byte) (File, error) {
	if p.err != nil {
		return nil, p.err
	}
	header := segmentHeader{number: g.number, salt: g.salt, first: g.first, spool: spool, made: g.made.UnixNano()}
	b := header.append(nil)
	if p.key != nil {
		// Twice, because without it the segment is lost.
		for range 2 {
			h := batchHeader{salt: g.salt, first: g.first, flags: flagKey, at: g.made.UnixNano()}
			b = append(b, h.seal(append(make([]byte, batchSize), p.keyFile...), checksum(p.keyFile))...)
		}
	}
	f, err := s.fs.Create(g.name())
	if err != nil {
		return nil, err
	}
	at := s.place(int64(len(b)), first)
	if at == block && &first[0] == &room[block] {
		clear(room[copy(room, b):block])
		_, err = f.WriteAt(room[:block+len(first)], 0)
	} else if _, err = f.WriteAt(b, 0); err == nil {
		_, err = f.WriteAt(first, at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.fs.Sync()
	}
	if err != nil {
		err = errors.Join(err, f.Close())
		_ = s.fs.Remove(g.name()) // it is gone, or passed over at the next start
		return nil, err
	}
	g.bytes = at + int64(len(first))
	s.mu.Lock()
	s.bytes += g.bytes
	s.mu.Unlock()
	return f, nil
}

// seal ends the segment that is being written: its ids are written down, and its
// records can leave. disk is held.
func (s *Spool) seal() error {
	s.mu.Lock()
	g := s.active
	s.mu.Unlock()
	if g == nil {
		return nil
	}
	return errors.Join(s.writeIDs(g, g.ids), s.rotate(true))
}

// abandon ends the segment that could not be written. What is whole in it stays. disk
// is held.
func (s *Spool) abandon() error {
	s.mu.Lock()
	g := s.active
	s.mu.Unlock()
	if g == nil {
		s.removeBeside(s.plan.number)
		return s.rotate(false)
	}
	// Where its ids cannot be written down now, the next start does it.
	return errors.Join(s.writeIDs(g, g.ids), s.rotate(true))
}

// rotate makes a plan for another segment. disk is held.
func (s *Spool) rotate(had bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if had {
		err = s.file.Close()
		s.active.sealed = true
		for _, id := range s.active.ids {
			delete(s.claimed, id)
		}
		s.active.ids = nil
		s.active, s.file = nil, nil
		close(s.sealed)
		s.sealed = make(chan struct{})
	}
	s.plan = s.newPlan(s.plan.number + 1)
	return err
}

// makeRoom drops what the policy lets go until n more bytes fit, or fails with ErrFull. keep says that it is not to be the segment
// that is being written. disk is held.
func (s *Spool) makeRoom(n int64, keep bool) error {
	for {
		s.mu.Lock()
		fits := s.bytes+n <= s.o.MaxBytes
		last := len(s.segments) == 0 || !s.segments[0].sealed
		s.mu.Unlock()
		if fits {
			return nil
		}
		if s.o.WhenFull != DropOldest || keep && last {
			return fmt.Errorf("%w: %d bytes more do not fit", ErrFull, n)
		}
		if err := s.dropFirst(byQuota); err != nil {
			return err
		}
	}
}

package spool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/picket-ml/picket/internal/capture"
)

// Segments are those that are sealed, oldest first.
func (s *Spool) Segments() []Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Segment
	for _, g := range s.segments {
		if g.sealed {
			all = append(all, g.public())
		}
	}
	return all
}

func (g *segment) public() Segment {
	return Segment{
		Number: g.number, First: g.first, Records: int64(g.end - g.first - g.lost), Bytes: g.bytes + g.big, Made: g.made, Sealed: g.last,
	}
}

// Next waits for a sealed segment with a higher number than after, and returns the
// first. It fails when ctx ends, and with ErrClosed. The segment is still the spool's,
// which may drop it at any time.
func (s *Spool) Next(ctx context.Context, after uint64) (Segment, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return Segment{}, ErrClosed
		}
		i := slices.IndexFunc(s.segments, func(g *segment) bool { return g.sealed && g.number > after })
		if i >= 0 {
			next := s.segments[i].public()
			s.mu.Unlock()
			return next, nil
		}
		sealed := s.sealed
		s.mu.Unlock()
		select {
		case <-sealed:
		case <-ctx.Done():
			return Segment{}, ctx.Err()
		}
	}
}

// DamageError is a range of a segment that is damaged, or that cannot be read. It wraps
// ErrDamaged.
type DamageError struct {
	Segment uint64
	Offset  int64
	Bytes   int64
	Err     error // why it cannot be read; nil for damaged bytes
}

// Error implements error.
func (e *DamageError) Error() string {
	text := fmt.Sprintf("segment %d of the capture spool: %d bytes from offset %d are damaged", e.Segment, e.Bytes, e.Offset)
	if e.Err != nil {
		return text + ": " + e.Err.Error()
	}
	return text
}

// Unwrap implements the errors package's interface.
func (e *DamageError) Unwrap() []error { return []error{ErrDamaged, e.Err} }

// Batches reads a sealed segment. A range that is damaged comes as a *DamageError, is
// set aside and counted the first time, and the batches behind it follow. Other errors
// end it: ErrGone, ErrKey, those of the disk. The segment is in memory as a whole
// meanwhile, and the records for as long as they are kept.
func (s *Spool) Batches(g Segment) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		if of, err := s.lookUp(g.Number); err != nil {
			yield(nil, err)
		} else {
			s.readRecords(of, yield)
		}
	}
}

// Payloads is Batches for who takes the records out of the bytes elsewhere: where they
// make no sense, Payload.Batch tells it, and Outcome.Unread is for how many they are.
func (s *Spool) Payloads(g Segment) iter.Seq2[*Payload, error] {
	return func(yield func(*Payload, error) bool) {
		of, err := s.lookUp(g.Number)
		if err != nil {
			yield(nil, err)
			return
		}
		s.read(of, func(p *Payload, err error) (whole int, more bool) {
			if p != nil {
				whole = p.Count
			}
			return whole, yield(p, err)
		})
	}
}

// lookUp is a segment that is sealed.
func (s *Spool) lookUp(number uint64) (*segment, error) {
	return s.find(number, true)
}

// find is a segment, which is sealed if it has to be.
func (s *Spool) find(number uint64, sealed bool) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.segments, func(g *segment) bool { return g.number == number })
	if i < 0 || sealed && !s.segments[i].sealed {
		return nil, fmt.Errorf("reading segment %d: %w", number, ErrGone)
	}
	return s.segments[i], nil
}

// readRecords is Batches for a segment of this process.
func (s *Spool) readRecords(g *segment, yield func(*Batch, error) bool) {
	s.read(g, func(p *Payload, err error) (int, bool) {
		if p == nil {
			return 0, yield(nil, err)
		}
		batch, err := p.Batch()
		return len(batch.Records), yield(batch, err)
	})
}

// read goes through a segment of this process: take gets a payload, or an error, says how
// many records of it are whole, and whether it wants more.
func (s *Spool) read(g *segment, take func(*Payload, error) (whole int, more bool)) {
	b, err := s.readFile(g.name(), maxSegmentFile)
	if err != nil {
		if _, gone := s.lookUp(g.number); gone != nil && errors.Is(err, fs.ErrNotExist) {
			err = ErrGone
		} else {
			err = s.unreadable(g, err)
		}
		if !errors.Is(err, ErrDamaged) {
			take(nil, fmt.Errorf("reading segment %d of the capture spool: %w", g.number, err))
			return
		}
		var unread *DamageError
		if b, unread = s.salvage(g, err); unread != nil {
			if _, more := take(nil, unread); !more {
				return
			}
		}
		err = nil
	}
	s.mu.Lock()
	end, key, spool := g.end, g.key, s.head.spool
	s.mu.Unlock()
	whole := uint64(0)
	complete := true
	for f := range s.walkSegment(g, b, end) {
		if f.payload == nil {
			damage := &DamageError{Segment: g.number, Offset: int64(f.offset), Bytes: int64(f.damage)}
			if err := s.setAside(g.number, f.offset, b[f.offset:f.offset+f.damage]); err != nil {
				damage.Err = err
			}
			if _, complete = take(nil, damage); !complete {
				break
			}
			continue
		}
		if f.header.flags&flagKey != 0 {
			if key == nil {
				key, err = openSegmentKey(f.payload, s.o.Identities)
			}
			continue
		}
		payload, openErr := s.open(g, f, key, spool, err)
		if openErr != nil && errors.Is(openErr, ErrKey) {
			take(nil, openErr)
			return
		}
		var n int
		n, complete = take(payload, openErr)
		whole += uint64(n)
		if !complete {
			break
		}
	}
	if complete {
		s.mu.Lock()
		g.lost = max(g.lost, g.end-g.first-min(whole, g.end-g.first))
		s.mu.Unlock()
	}
}

// open is a batch in the clear. keyErr is why there is no key.
func (s *Spool) open(g *segment, f found, key *segmentKey, spool uint64, keyErr error) (_ *Payload, err error) {
	plain := f.payload
	if f.header.flags&flagSealed != 0 {
		if key == nil {
			if keyErr == nil {
				keyErr = ErrKey
			}
			return nil, fmt.Errorf("reading segment %d of the capture spool: %w", g.number, keyErr)
		}
		if plain, err = key.open(plain, &f.header); err != nil {
			return nil, &DamageError{Segment: g.number, Offset: int64(f.offset), Bytes: int64(f.header.size()), Err: err}
		}
	}
	return &Payload{
		Segment: g.number, Offset: int64(f.offset), Size: int64(f.header.size()), Spool: spool, Sequence: f.header.first, Count: int(f.header.records),
		Time: timeOf(f.header.at), Bytes: plain,
	}, nil
}

// Batch takes the records out. Those whose bytes make no sense are missing, and the error
// says so: a *DamageError.
func (p *Payload) Batch() (*Batch, error) {
	batch := &Batch{Segment: p.Segment, Offset: p.Offset, Sequence: p.Sequence, Time: p.Time}
	at := p.Sequence
	var err error
	for records, b := range entries(p.Bytes) {
		e, parseErr := capture.ParseEntry(b)
		if parseErr == nil && len(e.Parts) == records {
			batch.Records = append(batch.Records, e.Records(capture.ID{Spool: p.Spool, Sequence: at})...)
		} else {
			err = errors.Join(err, &DamageError{Segment: p.Segment, Offset: p.Offset, Bytes: p.Size, Err: parseErr})
		}
		at += uint64(records)
	}
	return batch, err
}

// unreadable makes damage of the error with which a segment, or what lies beside it, cannot be read: at once where it is not there, else when that has been
// so for a while. A disk may come back, and what is passed over does not.
func (s *Spool) unreadable(g *segment, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.unread.IsZero() {
		g.unread = time.Now()
	}
	if errors.Is(err, fs.ErrNotExist) || s.o.ReadOnly || time.Since(g.unread) >= s.o.readPatience {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// salvage reads what can be read of a segment's file, of which not all can. The rest is zeros, and told as damage, which is counted once; there are no bytes
// of it that could be set aside.
func (s *Spool) salvage(g *segment, why error) ([]byte, *DamageError) {
	damage := &DamageError{Segment: g.number, Err: why}
	var b []byte
	if f, err := s.fs.Open(g.name()); err == nil {
		if size, err := f.Size(); err == nil {
			b = make([]byte, min(size, maxSegmentFile))
		}
		for at := 0; at < len(b); at += block {
			part := b[at:min(at+block, len(b))]
			if _, err := f.ReadAt(part, int64(at)); err != nil && !errors.Is(err, io.EOF) {
				clear(part)
				if damage.Bytes == 0 {
					damage.Offset = int64(at)
				}
				damage.Bytes += int64(len(part))
			}
		}
		_ = f.Close() // it was only read
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(b) == 0 {
		damage.Bytes = g.bytes
	}
	if damage.Bytes == 0 {
		return b, nil // it can be read again
	}
	if !g.counted {
		g.counted = true
		s.damaged.Ranges++
		s.damaged.Bytes += damage.Bytes
		s.log.Warn("a segment of the capture spool cannot be read: it is passed over, as far as that is so", "segment", g.number, "bytes", damage.Bytes, "error", why)
	}
	return b, damage
}

// walkSegment goes through the bytes of a segment's file. What is behind its last record, where that is known, is no damage: a batch
// that was refused because the disk was full, or failed, and that had got there in part.
func (s *Spool) walkSegment(g *segment, b []byte, end uint64) iter.Seq[found] {
	return func(yield func(found) bool) {
		at, next := 0, uint64(0)
		var h segmentHeader
		if h.parse(b, g.number, g.salt) {
			at, next = headerSize, h.first
		}
		for f := range walk(b, g.salt, at, end) {
			switch {
			case f.payload == nil && g.certain && next == end && f.offset+f.damage == len(b):
				return
			case f.payload != nil && f.header.flags&flagKey == 0:
				next = f.header.first + uint64(f.header.records)
			}
			if !yield(f) {
				return
			}
		}
	}
}

// scanned is what a whole segment has.
type scanned struct {
	first, end    uint64 // 0 without a batch
	records       uint64 // in whole batches
	ids           []idKey
	firstAt, last time.Time
}

// scan reads a whole segment. What is damaged is set aside if aside says so. It fails
// only where that fails.
func (s *Spool) scan(g *segment, aside bool) (out scanned, err error) {
	b, err := s.readFile(g.name(), maxSegmentFile)
	if err != nil {
		b, _ = s.salvage(g, err)
	}
	end := uint64(math.MaxUint64)
	if g.end > 0 {
		end = g.end
	}
	key := g.key
	for f := range s.walkSegment(g, b, end) {
		switch {
		case f.payload == nil:
			if aside {
				if err := s.quarantine(g.number, f.offset, b[f.offset:f.offset+f.damage]); err != nil {
					return out, err
				}
			}
			continue
		case f.header.flags&flagKey != 0:
			if key == nil {
				key, _ = openSegmentKey(f.payload, s.o.Identities) // without it the ids are not known
			}
			continue
		}
		if out.first == 0 {
			out.first, out.firstAt = f.header.first, timeOf(f.header.at)
		}
		out.end, out.last = f.header.first+uint64(f.header.records), timeOf(f.header.at)
		out.records += uint64(f.header.records)
		payload := f.payload
		if f.header.flags&flagSealed != 0 {
			if key == nil {
				continue
			}
			if payload, err = key.open(payload, &f.header); err != nil {
				continue // it is found when it is read
			}
		}
		for _, b := range entries(payload) {
			if e, err := capture.ParseEntry(b); err == nil && e.Kind == capture.Explicit {
				for i := range e.Parts {
					out.ids = append(out.ids, keyOf(e.Parts[i].Inference))
				}
			}
		}
	}
	return out, nil
}

// setAside is quarantine for a reader.
func (s *Spool) setAside(number uint64, offset int, b []byte) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	return s.quarantine(number, offset, b)
}

// quarantine copies damaged bytes to a file of their own and counts them, the first time
// that they are met. They stay where they are, where every reader passes them by. disk is
// held.
func (s *Spool) quarantine(number uint64, offset int, b []byte) error {
	name := badFileName(number, offset, len(b))
	s.mu.Lock()
	_, had := s.bad[name]
	if !had {
		s.bad[name] = int64(len(b))
		s.damaged.Ranges++
		s.damaged.Bytes += int64(len(b))
	}
	s.mu.Unlock()
	if had || s.o.ReadOnly {
		return nil
	}
	s.log.Warn("bytes of the capture spool are damaged: they are set aside", "segment", number, "offset", offset, "bytes", len(b), "file", name)
	if err := s.writeFile(name, b); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		// What is damaged is damaged, with a copy or without.
		s.log.Warn("setting damaged bytes of the capture spool aside", "error", err)
		return nil
	}
	s.tidyQuarantine()
	return nil
}

// tidyQuarantine removes the oldest of what was set aside where that is more than an
// eighth of the spool. disk is held.
func (s *Spool) tidyQuarantine() {
	s.mu.Lock()
	var names []string
	total := int64(0)
	for name, size := range s.bad {
		names = append(names, name)
		total += size
	}
	slices.Sort(names)
	var remove []string
	for _, name := range names {
		if total <= s.o.MaxBytes/8 {
			break
		}
		total -= s.bad[name]
		remove = append(remove, name)
	}
	s.mu.Unlock()
	for _, name := range remove {
		s.remove(name)
		s.mu.Lock()
		delete(s.bad, name)
		s.mu.Unlock()
	}
}

// Quarantined are the files of damaged bytes.
func (s *Spool) Quarantined() []FileInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []FileInfo
	for name, size := range s.bad {
		all = append(all, FileInfo{name, size})
	}
	slices.SortFunc(all, func(a, b FileInfo) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// Beside reads what lies beside a segment, and checks it.
func (s *Spool) Beside(at *capture.Beside) ([]byte, error) {
	m := saltedName.FindStringSubmatch(at.Name)
	if m == nil || m[3] != extBig || at.Size < 0 || at.Size > 1<<40 {
		return nil, fmt.Errorf("reading a tensor beside its record: %w: %q is no name of one", ErrDamaged, at.Name)
	}
	g, err := s.find(hexadecimal(m[1]), false)
	if err != nil {
		return nil, err
	}
	data, err := s.readFile(at.Name, at.Size+64)
	if err != nil {
		return nil, fmt.Errorf("reading a tensor beside its record: %w", s.unreadable(g, err))
	}
	key, err := s.keyOfSegment(g)
	if err != nil {
		return nil, err
	}
	if key != nil {
		if data, err = key.openFile(at.Name, data); err != nil {
			return nil, err
		}
	}
	if int64(len(data)) != at.Size || sha256.Sum256(data) != at.SHA256 {
		return nil, fmt.Errorf("reading a tensor beside its record: %w: %s has other bytes", ErrDamaged, at.Name)
	}
	return data, nil
}

// keyOfSegment is the key of a segment, nil for one in the clear.
func (s *Spool) keyOfSegment(g *segment) (*segmentKey, error) {
	s.mu.Lock()
	key := g.key
	s.mu.Unlock()
	if key != nil {
		return key, nil
	}
	b, err := s.readFile(g.name(), maxSegmentFile)
	if err != nil {
		return nil, fmt.Errorf("reading segment %d of the capture spool: %w", g.number, s.unreadable(g, err))
	}
	for f := range s.walkSegment(g, b, math.MaxUint64) {
		if f.payload != nil && f.header.flags&flagKey != 0 {
			if key, err = openSegmentKey(f.payload, s.o.Identities); err != nil {
				return nil, err
			}
			s.mu.Lock()
			g.key = key
			s.mu.Unlock()
			return key, nil
		}
		if f.payload != nil {
			break
		}
	}
	return nil, nil
}

// Verify reads all that is there, and returns what the spool has done, with every
// damage counted. bad is called for each; the open segment counts too.
func (s *Spool) Verify(bad func(error)) Stats {
	s.mu.Lock()
	all := slices.Clone(s.segments)
	s.mu.Unlock()
	for _, g := range all {
		s.readRecords(g, func(b *Batch, err error) bool {
			if err != nil {
				bad(err)
				return true
			}
			for i := range b.Records {
				s.verifyBeside(&b.Records[i], bad)
			}
			return true
		})
	}
	return s.Stats()
}

func (s *Spool) verifyBeside(r *capture.Record, bad func(error)) {
	check := func(at *capture.Beside) {
		if at != nil {
			if _, err := s.Beside(at); err != nil {
				bad(err)
			}
		}
	}
	for _, side := range [2][]capture.Tensor{r.Inputs, r.Outputs} {
		for i := range side {
			check(side[i].Beside)
		}
	}
	for _, side := range [2][]capture.Payload{r.AuxInputs, r.AuxOutputs} {
		for i := range side {
			check(side[i].Beside)
		}
	}
}

package spool

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/oserror"
)

// Spool is an open spool. Its methods may be called by many goroutines at once.
//
// Two locks: disk is held by whoever changes files, mu guards what is known of them.
// Where both are held, disk is taken first. mu is never held during a call of the disk.
type Spool struct {
	o   Options
	fs  FS
	log *slog.Logger

	disk sync.Mutex

	mu       sync.Mutex
	head     head
	segments []*segment // on disk and not settled, oldest first
	plan     plan       // the segment that comes next, or that is being written
	active   *segment   // the one that is being written; nil before its first batch
	file     File       // of active
	pending  *batch     // what the next write brings
	ready    []*batch   // empty ones, whose room waits for them
	look     time.Time  // when the committer looks for a batch by itself; zero: it has to be woken
	took     time.Time  // when it found one last
	next     uint64     // the number of the next record that is accepted
	bytes    int64      // what all files take
	refused  Refused
	batches  int64
	damaged  Damage
	bad      map[string]int64   // the quarantine, by name
	claimed  map[idKey]struct{} // ids that no file has yet
	idFiles  map[uint64]*idFile // by segment
	sealed   chan struct{}      // closed and replaced when a segment is sealed
	notYet   time.Time          // after a failure: when to write again
	why      error              // ErrFull or ErrDisk, which it was
	failing  time.Time          // when a failure was logged last; zero while there is none
	stopped  bool               // by the policy
	opened   time.Time
	sealRoom []byte // the committer's, for encrypted batches
	closed   bool

	wake chan struct{} // one token when the committer has something to look at
	done chan struct{} // closed when the committer has ended
}

// Damage is what was found damaged.
type Damage struct{ Ranges, Bytes int64 }

// plan is a segment that may not be there yet.
type plan struct {
	number, salt uint64
	key          *segmentKey
	keyFile      []byte
	err          error // why there is no key, and so no segment
	big          int64 // bytes beside it
}

// segment is what is known of one on disk.
type segment struct {
	number, salt uint64
	first, end   uint64    // its records; end is the first of the next segment
	lost         uint64    // of these, those that are known to be damaged
	bytes        int64     // the file's
	big          int64     // bytes beside it
	made, last   time.Time // by the host's clock
	madeHere     time.Time // when this process made it; zero for an earlier one's
	sealed       bool
	certain      bool        // where it ends is known from what was accepted, or from the segment that follows
	key          *segmentKey // of one that this process writes
	ids          []idKey     // of one that is not sealed
	unread       time.Time   // when it, or what lies beside it, could not be read first
	counted      bool        // as damaged, because not all of it can be read
}

func (g *segment) name() string { return segmentName(g.number, g.salt) }

// batch is what is written together.
type batch struct {
	// Draft has a header's place, which is not summed up, and the payload; in the room, behind a block, while that is large enough.
	capture.Draft
	room    []byte
	records int
	ids     []idKey
	urgent  bool // somebody waits
	big     bool // tensors lie beside the segment that it is meant for
	since   time.Time
	err     error
	done    chan struct{}
}

// How much may wait to be written, how much is enough to write it at once, from where on it is written in whole blocks, and after
// a failed write how long nobody tries again.
const (
	maxPending = 16 << 20
	enough     = 4 << 20
	blockFrom  = 128 << 10
	retryPause = time.Second
	// looks is how many times the committer looks and finds nothing until it has to be woken.
	looks    = 20
	agePause = time.Minute
	// readPatience is how long a segment that cannot be read keeps those behind it waiting.
	readPatience = 10 * time.Minute
	sayPause     = time.Minute // between lines of the log about one failure
)

// Open opens the spool, or makes one. What the files contain is no reason to fail; that
// they cannot be listed, read or written is.
func Open(o Options) (_ *Spool, err error) {
	o = o.orDefaults()
	s := &Spool{
		o: o, fs: o.FS, log: o.Log, bad: map[string]int64{}, claimed: map[idKey]struct{}{}, idFiles: map[uint64]*idFile{},
		sealed: make(chan struct{}), opened: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if s.fs == nil {
		if s.fs, err = openDir(o.Dir, o.ReadOnly); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			_ = s.fs.Close()
		}
	}()
	if o.ReadOnly {
		close(s.done)
		return s, s.recover()
	}
	if err := s.fs.Lock(); err != nil {
		return nil, fmt.Errorf("opening the capture spool: %w", err)
	}
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("opening the capture spool: %w", err)
	}
	// Two: one is written while the next comes.
	rooms := [2][]byte{s.newRoom(), s.newRoom()}
	s.ready = []*batch{newBatch(rooms[0]), newBatch(rooms[1])}
	if s.o.FS != nil {
		go s.run() // of the disks of tests there are many, for moments
	} else {
		go s.run(rooms[:]...)
	}
	return s, nil
}

func (s *Spool) newRoom() []byte { return newRoom(s.o.FS == nil) }

func newBatch(room []byte) *batch {
	return &batch{Draft: capture.Draft{B: room[block : block+batchSize], Summed: batchSize}, room: room, done: make(chan struct{})}
}

// sumFrom is how much of a payload is summed up at once: so little that it is in the processor's cache still, and so much that the tables
// for it, which are not, are fetched for more than a few records.
const sumFrom = 32 << 10

func (o Options) orDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 8 << 20
	}
	if o.SegmentAge == 0 {
		o.SegmentAge = 10 * time.Second
	}
	if o.FlushAfter == 0 {
		o.FlushAfter = 100 * time.Millisecond
	}
	if o.BesideBytes == 0 {
		o.BesideBytes = 1 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.blockFrom == 0 {
		o.blockFrom = blockFrom
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Alarm == nil {
		o.Alarm = alarm.New
	}
	if o.readPatience == 0 {
		o.readPatience = readPatience
	}
	return o
}

// newPlan makes a plan for the segment with that number.
func (s *Spool) newPlan(number uint64) plan {
	p := plan{number: number, salt: random64()}
	if len(s.o.Recipients) > 0 {
		p.key, p.keyFile, p.err = newSegmentKey(s.o.Recipients)
	}
	return p
}

func random64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return le.Uint64(b[:])
}

// Append accepts the entries, all or none, and returns when they are durable. Callers
// that come meanwhile share one write and one sync. When ctx ends first the entries may
// be accepted all the same. Its errors are ErrFull, ErrBusy, ErrDisk, ErrClosed, for an
// Explicit entry ErrKnown, and ctx's.
func (s *Spool) Append(ctx context.Context, entries ...*capture.Entry) error {
	b, err := s.add(true, entries)
	if err != nil || b == nil {
		return err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Put is Append for whoever does not wait: the entries are made durable within
// FlushAfter. Where that fails they are counted as refused. It waits for the disk only
// where a tensor is written beside its record.
func (s *Spool) Put(entries ...*capture.Entry) error {
	_, err := s.add(false, entries)
	return err
}

// TryPut is Put of one sample for whoever cannot wait, not for another goroutine either. It tells false, and has done nothing, where it
// would have to, or to allocate.
func (s *Spool) TryPut(e capture.Encoder) (done bool, err error) {
	size := e.Size()
	if s.o.ReadOnly || int64(size) > s.o.BesideBytes || !s.mu.TryLock() {
		return false, nil
	}
	defer s.mu.Unlock()
	b := s.pending
	if b == nil && len(s.ready) > 0 {
		b = s.ready[len(s.ready)-1]
	}
	if b == nil || cap(b.B)-len(b.B) < size+2*block {
		return false, nil
	}
	records := e.Len()
	if b, err = s.comes(records); err != nil {
		return true, err
	}
	if err = s.append(b, e, records); err == nil {
		s.came(b, records, false)
	}
	return true, err
}

// Flush makes durable what was Put.
func (s *Spool) Flush(ctx context.Context) error {
	s.mu.Lock()
	b := s.pending
	if b != nil {
		b.urgent = true
	}
	s.mu.Unlock()
	if b == nil {
		return nil
	}
	s.notify()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add puts entries into the pending batch.
func (s *Spool) add(urgent bool, all []*capture.Entry) (*batch, error) {
	if s.o.ReadOnly {
		return nil, fmt.Errorf("%w: it was opened to be read", ErrDisk)
	}
	ids, err := s.claim(all)
	if err != nil {
		return nil, err
	}
	var b *batch
	if s.anyBig(all) {
		b, err = s.addBig(urgent, all, ids)
	} else {
		s.mu.Lock()
		b, err = s.enqueue(urgent, all, ids)
		s.mu.Unlock()
	}
	if err != nil {
		s.unclaim(ids)
		return nil, err
	}
	return b, nil
}

func (s *Spool) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// enqueue appends entries, whose tensors are small, to the pending batch. mu is held.
func (s *Spool) enqueue(urgent bool, all []*capture.Entry, ids []idKey) (*batch, error) {
	records := 0
	for _, e := range all {
		records += len(e.Parts)
	}
	b, err := s.comes(records)
	if err != nil {
		return nil, err
	}
	before := len(b.B)
	for _, e := range all {
		if err := s.append(b, e, records); err != nil {
			b.B = b.B[:before]
			return nil, err
		}
	}
	b.ids = append(b.ids, ids...)
	s.came(b, records, urgent)
	return b, nil
}

// comes is the batch for records that come: the pending one, or that which will be. mu is held.
func (s *Spool) comes(records int) (*batch, error) {
	if err := s.admit(); err != nil {
		s.count(err, records)
		return nil, err
	}
	if s.pending != nil {
		return s.pending, nil
	}
	return s.ready[len(s.ready)-1], nil
}

// append appends one of the entries of so many records in all, or leaves the batch as it was. mu is held.
func (s *Spool) append(b *batch, e capture.Encoder, records int) error {
	start, size := len(b.B), e.Size()
	if start+size > maxPayload/2 {
		s.count(ErrBusy, records)
		return ErrBusy
	}
	b.B = appendEntryFrame(b.B, size, e.Len())
	if err := e.AppendTo(&b.Draft); err != nil {
		b.B = b.B[:start]
		return err
	}
	return nil
}

// came makes the batch that which is pending, with so many records more. mu is held.
func (s *Spool) came(b *batch, records int, urgent bool) {
	first := s.pending == nil
	if first {
		s.pending, s.ready = b, s.ready[:len(s.ready)-1]
		b.since = time.Now()
	}
	if len(b.B)-b.Summed >= sumFrom && s.plan.key == nil {
		b.SumUp()
	}
	b.records += records
	b.urgent = b.urgent || urgent
	if first && s.look.IsZero() || urgent || len(b.B) > enough {
		s.notify() // so that it is written in time
	}
}

// errStopped is made once: threads that answer get it, which allocate nothing.
var errStopped = fmt.Errorf("%w: it has stopped, as when_full says, until the daemon reloads", ErrFull)

// admit tells whether anything is taken now. mu is held.
func (s *Spool) admit() error {
	waits := int64(0)
	if s.pending != nil {
		waits = int64(len(s.pending.B))
	}
	switch {
	case s.closed:
		return ErrClosed
	case s.stopped:
		return errStopped
	case !s.notYet.IsZero() && time.Now().Before(s.notYet):
		return s.why
	case waits > maxPending:
		return ErrBusy
	case s.o.WhenFull != DropOldest && s.bytes+waits+s.o.BesideBytes > s.o.MaxBytes:
		if s.o.WhenFull == Stop {
			s.stopped = true
			s.log.Error("the capture spool is full: capturing has stopped until the daemon reloads or restarts", "bytes", s.bytes, "limit", s.o.MaxBytes)
		}
		return ErrFull
	}
	return nil
}

// count counts records that were refused. mu is held.
func (s *Spool) count(err error, records int) {
	switch n := int64(records); {
	case errors.Is(err, ErrFull):
		s.refused.Full += n
	case errors.Is(err, ErrBusy):
		s.refused.Busy += n
	default:
		s.refused.Disk += n
	}
}

// Resume takes records again after the policy has stopped it.
func (s *Spool) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = false
}

// anyBig tells whether a tensor of the entries is to be written beside.
func (s *Spool) anyBig(all []*capture.Entry) bool { return slices.ContainsFunc(all, s.isBig) }

func (s *Spool) isBig(e *capture.Entry) bool {
	total := int64(0)
	for data := range sides(e) {
		total += int64(len(data.bytes()))
		if int64(len(data.bytes())) > s.o.BesideBytes {
			return true
		}
	}
	return total > s.inlineMost()
}

// inlineMost is how much the tensors of one record may have together.
func (s *Spool) inlineMost() int64 { return min(4*s.o.BesideBytes, capture.MaxEntry) }

// part is a tensor or a payload of an entry.
type part struct {
	data *[]byte
	at   **capture.Beside
}

func (p part) bytes() []byte { return *p.data }

// sides are all tensors and payloads of an entry.
func sides(e *capture.Entry) func(yield func(part) bool) {
	return func(yield func(part) bool) {
		for _, tensors := range [2][]capture.Tensor{e.Inputs, e.Outputs} {
			for i := range tensors {
				if !yield(part{&tensors[i].Data, &tensors[i].Beside}) {
					return
				}
			}
		}
		for _, payloads := range [2][]capture.Payload{e.AuxInputs, e.AuxOutputs} {
			for i := range payloads {
				if !yield(part{&payloads[i].Data, &payloads[i].Beside}) {
					return
				}
			}
		}
	}
}

// addBig writes the large tensors beside the segment that the entries will be in, and the entries without them into it, with what
// was pending. The disk is held throughout, so that it is that segment: one that was sealed in between would leave, or be dropped,
// with tensors of records that are in the next.
func (s *Spool) addBig(urgent bool, all []*capture.Entry, ids []idKey) (*batch, error) {
	s.disk.Lock()
	defer s.disk.Unlock()
	b, err := s.enqueueBig(urgent, all, ids)
	if err != nil {
		return nil, err
	}
	s.write(b)
	return b, nil
}

// enqueueBig is addBig up to the batch, which it takes from what is pending. disk is held.
func (s *Spool) enqueueBig(urgent bool, all []*capture.Entry, ids []idKey) (*batch, error) {
	s.mu.Lock()
	records, size := 0, int64(0)
	for _, e := range all {
		records += len(e.Parts)
		for p := range sides(e) {
			size += int64(len(p.bytes()))
		}
	}
	// With the batch, so that what makes room for that is not the segment beside which the tensors lie.
	payload := len(all) * entryRoom
	if s.pending != nil {
		payload += len(s.pending.B)
	}
	need := size + s.batchBytes(payload)
	err := s.admit()
	if err == nil && s.o.WhenFull != DropOldest && s.bytes+need > s.o.MaxBytes || size > s.o.MaxBytes/2 {
		err = fmt.Errorf("%w: %d bytes more do not fit", ErrFull, need)
	}
	if err != nil {
		s.count(err, records)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	err = s.makeRoom(need, false)
	var p plan
	if err == nil {
		s.mu.Lock()
		p = s.plan // after room was made, which may have begun another segment
		s.mu.Unlock()
		err = p.err
	}
	if err == nil {
		all, err = s.writeBeside(p, all)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		err = s.failed(err)
		s.count(err, records)
		return nil, err
	}
	s.plan.big += size
	b, err := s.enqueue(urgent, all, ids)
	if err != nil {
		return nil, err
	}
	b.big = true
	s.pending = nil
	return b, nil
}

// writeBeside returns copies of the entries with their large tensors in files of
// segment p. disk is held.
func (s *Spool) writeBeside(p plan, all []*capture.Entry) ([]*capture.Entry, error) {
	var out []*capture.Entry
	var written []string
	fail := func(err error) ([]*capture.Entry, error) {
		for _, name := range written {
			s.remove(name)
		}
		return nil, err
	}
	for _, e := range all {
		c := copyOf(e)
		out = append(out, c)
		inline := int64(0)
		for part := range sides(c) {
			data := part.bytes()
			if n := int64(len(data)); n <= s.o.BesideBytes && inline+n <= s.inlineMost() {
				inline += n
				continue
			}
			name := bigName(p.number, random64())
			at := &capture.Beside{Name: name, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
			if p.key != nil {
				var err error
				if data, err = p.key.sealFile(name, data); err != nil {
					return fail(err)
				}
			}
			written = append(written, name)
			if err := s.writeFile(name, data); err != nil {
				return fail(err)
			}
			*part.data, *part.at = nil, at
		}
	}
	if err := s.fs.Sync(); err != nil {
		return fail(err)
	}
	return out, nil
}

// copyOf is e with tensors of its own, which have the same bytes.
func copyOf(e *capture.Entry) *capture.Entry {
	c := *e
	c.Inputs, c.Outputs = append([]capture.Tensor(nil), e.Inputs...), append([]capture.Tensor(nil), e.Outputs...)
	c.AuxInputs, c.AuxOutputs = append([]capture.Payload(nil), e.AuxInputs...), append([]capture.Payload(nil), e.AuxOutputs...)
	return &c
}

// writeFile makes a durable file, whose name is not durable yet. disk is held.
func (s *Spool) writeFile(name string, data []byte) error {
	f, err := s.fs.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.fs.Remove(name) // the first error tells more
		return err
	}
	s.mu.Lock()
	s.bytes += int64(len(data))
	s.mu.Unlock()
	return nil
}

// remove removes a file that nothing depends on any more. disk is held.
func (s *Spool) remove(name string) {
	size := int64(0)
	if f, err := s.fs.Open(name); err == nil {
		size, _ = f.Size() // 0 where it is not known
		_ = f.Close()
	}
	if err := s.fs.Remove(name); err != nil {
		s.log.Warn("removing a file of the capture spool: it is tried again at the next start", "file", name, "error", err)
		return
	}
	s.mu.Lock()
	s.bytes -= size
	s.mu.Unlock()
}

// failed is the error for callers whose records could not be written, and has the spool
// pause. mu is held.
func (s *Spool) failed(err error) error {
	kind := ErrDisk
	if noSpace(err) || errors.Is(err, ErrFull) {
		kind = ErrFull
	}
	s.notYet, s.why = time.Now().Add(retryPause), kind
	if time.Since(s.failing) > sayPause {
		s.failing = time.Now()
		s.log.Error("writing to the capture spool: what comes is refused, and it is tried again", "error", err, "pause", retryPause)
	}
	if errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

func noSpace(err error) bool { return oserror.NoRoom(err) || oserror.OverQuota(err) }

// Stats is what the spool has done.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Accepted: int64(s.next - 1), Uploaded: int64(s.head.uploaded), Quarantined: int64(s.head.quarantined),
		Dropped: Dropped{Quota: int64(s.head.dropped[byQuota]), Age: int64(s.head.dropped[byAge]), Policy: int64(s.head.dropped[byPolicy]), Lost: int64(s.head.dropped[byLoss])},
		Refused: s.refused, Bytes: s.bytes, Limit: s.o.MaxBytes, DamagedRanges: s.damaged.Ranges, DamagedBytes: s.damaged.Bytes,
		Batches: s.batches, Stopped: s.stopped,
	}
	at := s.head.first
	for _, g := range s.segments {
		st.Quarantined += int64(g.first - at + g.lost)
		st.OnDisk += int64(g.end - g.first - g.lost)
		at = g.end
		if g.end > g.first {
			st.Segments++
			if st.Oldest.IsZero() {
				st.Oldest = g.made
			}
		}
	}
	st.Quarantined += int64(s.next - at)
	return st
}

// Directory is where the spool is.
func (s *Spool) Directory() string { return s.o.Dir }

// ID is the spool's random half of record ids.
func (s *Spool) ID() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.spool
}

// Close makes durable what was Put, seals the newest segment, and gives the directory
// up. What comes later is refused.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	if s.o.ReadOnly {
		return s.fs.Close()
	}
	s.notify()
	<-s.done
	s.disk.Lock()
	defer s.disk.Unlock()
	err := s.seal()
	s.mu.Lock()
	h := s.head
	h.next = s.next
	close(s.sealed)
	for _, b := range s.ready {
		err = errors.Join(err, freeRooms(b.room))
	}
	err = errors.Join(err, freeRooms(s.sealRoom))
	s.ready, s.sealRoom = nil, nil
	s.mu.Unlock()
	err = errors.Join(err, s.writeHead(h))
	if closeErr := s.fs.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	if err != nil {
		return fmt.Errorf("closing the capture spool: %w", err)
	}
	return nil
}

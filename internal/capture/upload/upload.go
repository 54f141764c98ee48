package upload

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// Source is a spool as an Uploader uses it.
type Source interface {
	// ID is the spool's random half of record ids.
	ID() uint64
	// Next waits for the first sealed segment after that number.
	Next(ctx context.Context, after uint64) (spool.Segment, error)
	// Batches are what a segment has. A *spool.DamageError is about a part, and the rest
	// follows; other errors end it.
	Batches(segment spool.Segment) iter.Seq2[*spool.Batch, error]
	// Beside is what lies beside a record.
	Beside(at *capture.Beside) ([]byte, error)
	// Acknowledge settles the segments up to that number.
	Acknowledge(through uint64, o spool.Outcome) error
}

// Options are what an Uploader is made of.
type Options struct {
	Source      Source
	Destination Destination
	Policy      *residency.Policy
	Audit       *residency.Audit
	// Format is common to all formats; its Kind and Ref are not used. KindsOf are the
	// formats of a model.
	Format  format.Options
	KindsOf func(model string) []format.Kind
	// Compression is for objects of text.
	Compression Compression
	// ObjectBytes is how much content an object has, before compression, apart from its
	// last record. Default 8 MiB.
	ObjectBytes int
	// Parallel is how many objects of a segment go side by side. Default 4.
	Parallel int
	Windows  Windows
	Log      *slog.Logger
}

// Uploader takes records from a spool to a destination.
type Uploader struct {
	o        Options
	gate     *gate
	counters counters
	spoolID  string
	send     chan struct{} // a token for each object that is under way
	working  chan struct{} // a token for the one that is encoded or compressed
}

// New makes an Uploader, which does nothing until Run. What o names stays its owner's, who
// closes it after Run has returned.
func New(o Options) *Uploader {
	if o.ObjectBytes <= 0 {
		o.ObjectBytes = 8 << 20
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Compression == "" {
		o.Compression = None
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	u := &Uploader{o: o, send: make(chan struct{}, o.Parallel), working: make(chan struct{}, 1), spoolID: fmt.Sprintf("%016x", o.Source.ID())}
	u.o.Format.Ref = o.Destination.URL
	u.counters.Stats = Stats{State: State{Phase: Idle, Since: time.Now()}, Failures: map[string]uint64{}}
	u.gate = newGate(o.Windows, u.report)
	return u
}

// holds tells whether the spool still has a segment: it may have dropped it meanwhile.
func (u *Uploader) holds(segment uint64) bool {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // so that nothing is waited for
	next, err := u.o.Source.Next(ended, segment-1)
	return err == nil && next.Number == segment
}

// Stats is what it has done, and does.
func (u *Uploader) Stats() Stats { return u.counters.snapshot() }

// report takes a state that may be a new one. The first failure of an outage is logged,
// and its end, and what makes it another one.
func (u *Uploader) report(s State) {
	s.Since = time.Now()
	var before State
	u.counters.change(func(c *Stats) {
		before = c.State
		if s.Phase == before.Phase {
			s.Since = before.Since
		}
		if s.Err != nil {
			c.Failures[Reason(s.Err)]++
		}
		c.State = s
	})
	switch {
	case s.Err != nil && (before.Err == nil || Reason(before.Err) != Reason(s.Err)):
		u.o.Log.Warn("captured records cannot leave, and wait in the spool", "reason", Reason(s.Err), "error", s.Err)
	case s.Err == nil && before.Err != nil && s.Phase == Sending:
		u.o.Log.Info("captured records leave again", "waited", time.Since(before.Since).Round(time.Second))
	case s.Phase == WaitingForWindow && before.Phase != WaitingForWindow:
		u.o.Log.Debug("captured records wait for the upload window", "opens", s.Until)
	}
}

// Run sends until ctx ends, which is no error, or the spool is closed. What is under way
// then is sent again by the next Run, under the same names.
func (u *Uploader) Run(ctx context.Context) error {
	defer u.report(State{Phase: Idle})
	if err := u.untilDone(ctx, func() error { return audited(u.o.Audit.Begin(u.o.Policy)) }); err != nil {
		return nil
	}
	if err := u.recover(ctx); err != nil {
		return nil
	}
	for after := uint64(0); ; {
		segment, err := u.o.Source.Next(ctx, after)
		switch {
		case ctx.Err() != nil || errors.Is(err, spool.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("reading the capture spool: %w", err)
		}
		err = u.untilDone(ctx, func() error {
			withheld, err := u.segment(ctx, segment)
			if err == nil {
				err = u.o.Source.Acknowledge(segment.Number, spool.Outcome{Withheld: min(withheld, segment.Records)})
			}
			if errors.Is(err, spool.ErrGone) {
				u.o.Log.Warn("a segment of captured records was dropped by the spool while it was sent", "segment", segment.Number)
				return nil
			}
			if err == nil {
				u.counters.change(func(c *Stats) { c.Segment, c.Withheld = segment.Number, c.Withheld+uint64(withheld) })
			}
			return err
		})
		if err != nil {
			return nil // all of it comes again after the next start
		}
		after = segment.Number
		// What the spool dropped while it was sent may have arrived.
		if err := u.recover(ctx); err != nil {
			return nil
		}
		if err := u.o.Audit.Settle(); err != nil {
			u.o.Log.Warn("the audit log goes on in a file that is larger than it should be", "error", err)
		}
		u.report(State{Phase: Idle})
	}
}

// untilDone calls do, which needs this host's disk, until it succeeds, ctx ends, or the
// spool is closed: the disk may be full, or a key missing that an operator brings.
func (u *Uploader) untilDone(ctx context.Context, do func() error) error {
	pause := firstPause
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, spool.ErrClosed) {
			return err
		}
		u.report(State{Phase: Blocked, Err: err})
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		const longest = 10 * time.Second // nobody else is asked, and space may come back soon
		pause = min(2*pause, longest)
	}
}

// recover finds out what became of objects that were sent before a crash.
func (u *Uploader) recover(ctx context.Context) error {
	for _, e := range u.o.Audit.Unstored() {
		key, ours := strings.CutPrefix(e.Object, u.o.Destination.URL(""))
		var tag string
		var there bool
		if key = strings.TrimPrefix(key, "/"); ours {
			err := u.gate.pass(ctx, func(ctx context.Context) (err error) {
				tag, there, err = u.o.Destination.Has(ctx, key)
				return err
			})
			if err != nil {
				return err
			}
		}
		e.Event, e.Tag = residency.Abandoned, ""
		if there {
			e.Event, e.Tag = residency.Stored, tag
			u.counters.change(func(c *Stats) { c.Known++ })
		}
		if err := u.enter(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// enter writes a line to the audit log, when it can be.
func (u *Uploader) enter(ctx context.Context, e residency.Entry) error {
	return u.untilDone(ctx, func() error {
		_, err := u.o.Audit.Append(e)
		return audited(err)
	})
}

// audited marks an error of the audit log.
func audited(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errAudit, err)
}

// segment sends what may leave of a segment. It fails when ctx ends, where the spool
// dropped it (spool.ErrGone), and where it cannot be read.
func (u *Uploader) segment(ctx context.Context, segment spool.Segment) (withheld int64, err error) {
	s := &sender{uploader: u, segment: segment.Number, hurries: hurries(segment.Sealed.Sub(segment.Made)), groups: map[string]*group{}, stored: map[string]func(uint64) bool{}}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	defer s.wait.Wait()
	var damage *spool.DamageError
	for batch, err := range u.o.Source.Batches(segment) {
		switch {
		case err == nil:
		case errors.As(err, &damage):
			u.counters.change(func(c *Stats) { c.Damaged++ })
			u.o.Log.Warn("a part of a segment of captured records cannot be read", "segment", segment.Number, "error", err)
		default:
			s.cancel(err)
			return 0, err
		}
		if batch == nil {
			continue
		}
		for some := range slices.Chunk(batch.Records, stretch) {
			began := time.Now()
			for i := range some {
				if err := s.take(&some[i]); err != nil {
					s.cancel(err)
					return 0, err
				}
			}
			s.rest(time.Since(began))
		}
		if s.ctx.Err() != nil {
			break
		}
	}
	s.flushAll()
	s.wait.Wait()
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	return s.withheld.Load(), nil
}

// sender sends one segment.
type sender struct {
	uploader *Uploader
	segment  uint64
	hurries  time.Time // from when on it rests no more
	ctx      context.Context
	cancel   context.CancelCauseFunc
	wait     sync.WaitGroup

	groups   map[string]*group // what becomes one object, by what its records share
	order    []string          // of groups, as they began
	held     int               // bytes in groups
	stored   map[string]func(uint64) bool
	withheld atomic.Int64
	warned   bool
}

// group is records that become one object.
type group struct {
	kind    format.Kind
	records []format.Record
	bytes   int
}

// take puts what may leave of a record into the groups of its formats. It fails where
// what lies beside the record cannot be read now.
func (s *sender) take(captured *capture.Record) error {
	u := s.uploader
	r, err := convert(u.o.Source, captured)
	if err != nil && !errors.Is(err, spool.ErrDamaged) && !errors.Is(err, errUnfit) {
		return err
	}
	if err == nil {
		err = u.o.Policy.Apply(&r)
	}
	if err != nil {
		s.withheld.Add(1)
		if !s.warned && u.o.Policy.Samples(r.Model) { // where nothing may leave, that is no news
			s.warned = true
			u.o.Log.Warn("a captured record does not leave; more of its segment may not either", "segment", s.segment, "record", captured.ID.Sequence, "error", err)
		}
		return nil
	}
	kinds := u.o.KindsOf(r.Model)
	for _, kind := range kinds {
		if r.Truth != nil && kind == format.Edge && slices.Contains(kinds, format.Endpoint) {
			continue // an outcome has one form for both
		}
		if s.isStored(kindOf(kind, r.Truth != nil), r.Number) {
			continue
		}
		s.add(kind, r)
	}
	return nil
}

// kindOf is what the audit log calls an object.
func kindOf(kind format.Kind, truth bool) string {
	switch {
	case truth && kind == format.Parquet:
		return "truth-parquet"
	case truth:
		return "truth"
	}
	return string(kind)
}

func (s *sender) isStored(kind string, record uint64) bool {
	if s.stored[kind] == nil {
		s.stored[kind] = s.uploader.o.Audit.Stored(s.uploader.spoolID, s.segment, kind)
	}
	return s.stored[kind](record)
}

// mostHeld bounds the records that wait for company, whatever the number of models.
const mostHeld = 64 << 20

func (s *sender) add(kind format.Kind, r format.Record) {
	key := fmt.Sprintf("%s %v %d %s", kind, r.Truth != nil, format.Hour(r.Time).Unix(), r.Model)
	g := s.groups[key]
	if g != nil && !format.SameObject(kind, &g.records[0], &r) {
		s.flush(key)
		g = nil
	}
	if g == nil {
		g = &group{kind: kind}
		s.groups[key] = g
		s.order = append(s.order, key)
	}
	size := sizeOf(&r)
	g.records = append(g.records, r)
	g.bytes += size
	s.held += size
	if g.bytes >= s.uploader.o.ObjectBytes {
		s.flush(key)
	}
	for s.held > mostHeld {
		s.flush(s.order[0])
	}
}

// sizeOf is about what a record takes in an object.
func sizeOf(r *format.Record) int {
	n := 200 + len(r.ID) + len(r.InferenceID)
	for _, side := range [][]format.Tensor{r.Inputs, r.Outputs} {
		for i := range side {
			n += 50 + len(side[i].Data)
		}
	}
	for _, side := range [][]format.Auxiliary{r.AuxiliaryInputs, r.AuxiliaryOutputs} {
		for i := range side {
			n += 50 + len(side[i].Data)
		}
	}
	return n
}

func (s *sender) flushAll() {
	for len(s.order) > 0 {
		s.flush(s.order[0])
	}
}

// flush sends a group. It waits while as many objects are under way as may be.
func (s *sender) flush(key string) {
	g := s.groups[key]
	delete(s.groups, key)
	for i, k := range s.order {
		if k == key {
			s.order = append(s.order[:i], s.order[i+1:]...)
			break
		}
	}
	s.held -= g.bytes
	select {
	case s.uploader.send <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	s.wait.Go(func() {
		defer func() { <-s.uploader.send }()
		if err := s.object(g); err != nil {
			s.cancel(err)
		}
	})
}

// object encodes a group and sends what it becomes. The error is that of ctx, or of a
// spool that was closed.
func (s *sender) object(g *group) error {
	u := s.uploader
	o := u.o.Format
	o.Kind = g.kind
	first := &g.records[0]
	b := &format.Batch{Spool: u.spoolID, Segment: s.segment, Model: first.Model, Truth: first.Truth != nil, Records: g.records}
	var objects []format.Object
	err := s.work(func() (err error) {
		objects, err = format.Encode(o, b)
		return err
	})
	if ended := context.Cause(s.ctx); ended != nil {
		return ended
	}
	if err != nil {
		// Which cannot be, as what is encoded was checked. But records that cannot be written
		// must not keep all others here for ever.
		u.o.Log.Error("captured records cannot be written in their format, and do not leave", "segment", s.segment, "model", first.Model, "format", g.kind, "records", len(g.records), "error", err)
		s.withheld.Add(int64(len(g.records)))
		return nil
	}
	var numbers residency.Numbers
	for i := range g.records {
		numbers.Add(g.records[i].Number)
	}
	entry := residency.Entry{
		Model: first.Model, Spool: u.spoolID, Segment: s.segment, Records: numbers.String(), Count: len(g.records),
	}
	for i := range objects {
		entry.Kind = kindOf(g.kind, b.Truth)
		if objects[i].Payload {
			entry.Kind = "payload"
		}
		var item *Item
		if err := s.work(func() (err error) {
			item, err = newItem(&objects[i], u.o.Compression)
			return err
		}); err != nil {
			return err
		}
		if err := u.put(s.ctx, item, len(objects[i].Content), entry); err != nil {
			return err
		}
	}
	u.counters.change(func(c *Stats) { c.Records += uint64(len(g.records)) })
	return nil
}

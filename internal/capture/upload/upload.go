package upload

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
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
	// Payloads are what a segment has. A *spool.DamageError is about a part, and the rest
	// follows; other errors end it.
	Payloads(segment spool.Segment) iter.Seq2[*spool.Payload, error]
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
	// Preparer makes objects by what is above, or by a Recipe that says the same; nil for
	// one in this process. It stays its owner's.
	Preparer Preparer
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
}

// New makes an Uploader, which does nothing until Run. What o names stays its owner's, who
// closes it after Run has returned.
func New(o Options) *Uploader {
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Compression == "" {
		o.Compression = None
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	u := &Uploader{o: o, send: make(chan struct{}, o.Parallel), spoolID: fmt.Sprintf("%016x", o.Source.ID())}
	u.o.Format.Ref = o.Destination.URL
	if o.Preparer == nil {
		u.o.Preparer = &recipe{policy: o.Policy, format: u.o.Format, kindsOf: o.KindsOf, compression: o.Compression, objectBytes: objectBytes(o.ObjectBytes), log: o.Log}
	}
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
			outcome, err := u.segment(ctx, segment)
			if err == nil {
				err = u.o.Source.Acknowledge(segment.Number, outcome)
			}
			if errors.Is(err, spool.ErrGone) {
				u.o.Log.Warn("a segment of captured records was dropped by the spool while it was sent", "segment", segment.Number)
				return nil
			}
			if err == nil {
				u.counters.change(func(c *Stats) { c.Segment, c.Withheld = segment.Number, c.Withheld+uint64(outcome.Withheld) })
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

// segment sends what may leave of a segment, and tells what of it does not. It fails when
// ctx ends, where the spool dropped it (spool.ErrGone), and where it cannot be read.
func (u *Uploader) segment(ctx context.Context, segment spool.Segment) (spool.Outcome, error) {
	s := &sender{uploader: u, segment: segment.Number}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	defer s.wait.Wait()
	var stop func()
	s.next, stop = iter.Pull2(u.o.Source.Payloads(segment))
	defer stop()
	out, err := u.o.Preparer.Prepare(s.ctx, Job{
		Spool: u.spoolID, Segment: segment.Number, Hurry: hurryOf(segment.Sealed.Sub(segment.Made)), Stored: u.o.Audit.Stored(u.spoolID, segment.Number),
	}, s)
	if err != nil {
		s.cancel(err)
	}
	s.wait.Wait()
	if err := context.Cause(s.ctx); err != nil {
		return spool.Outcome{}, err
	}
	u.counters.change(func(c *Stats) { c.Damaged += uint64(out.Damaged) })
	unread := min(out.Unread, segment.Records)
	return spool.Outcome{Withheld: min(out.Withheld, segment.Records-unread), Unread: unread}, nil
}

// sender sends one segment. It is the Work of a Preparer.
type sender struct {
	uploader *Uploader
	segment  uint64
	ctx      context.Context
	cancel   context.CancelCauseFunc
	wait     sync.WaitGroup
	next     func() (*spool.Payload, error, bool)
}

// Next implements Work. What is damaged is counted and passed over.
func (s *sender) Next() (*spool.Payload, error) {
	for {
		payload, err, more := s.next()
		if ended := context.Cause(s.ctx); ended != nil {
			return nil, ended
		}
		var damage *spool.DamageError
		switch {
		case !more:
			return nil, nil
		case errors.As(err, &damage):
			s.uploader.counters.change(func(c *Stats) { c.Damaged++ })
			s.uploader.o.Log.Warn("a part of a segment of captured records cannot be read", "segment", s.segment, "error", err)
		default:
			return payload, err
		}
	}
}

// Beside implements Work.
func (s *sender) Beside(at *capture.Beside) ([]byte, error) { return s.uploader.o.Source.Beside(at) }

// Object implements Work.
func (s *sender) Object(o *Object) error {
	select {
	case s.uploader.send <- struct{}{}:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	s.wait.Go(func() {
		defer func() { <-s.uploader.send }()
		if err := s.put(o); err != nil {
			s.cancel(err)
		}
	})
	return nil
}

// put sends what an object is made of. The error is that of ctx, or of a spool that was
// closed.
func (s *sender) put(o *Object) error {
	u := s.uploader
	for i := range o.Items {
		entry := residency.Entry{Kind: o.Items[i].Kind, Model: o.Model, Spool: u.spoolID, Segment: s.segment, Records: o.Records, Count: o.Count}
		if err := u.put(s.ctx, &o.Items[i], entry); err != nil {
			return err
		}
		o.Items[i].Body = nil // it may be large
	}
	u.counters.change(func(c *Stats) { c.Records += uint64(o.Count) })
	return nil
}

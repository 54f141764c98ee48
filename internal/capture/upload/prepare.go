package upload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// Recipe says what becomes of records: what of them may leave, and how objects are made
// of them. It is plain data, which can be told to another process.
type Recipe struct {
	Residency residency.Options
	// Format is common to all formats; its Kind and Ref are not used. Base is what the
	// names of objects at the destination begin with, as Destination.URL gives them.
	Format format.Options
	Base   string
	// Kinds are the formats of models that KindsOf does not name.
	Kinds   []format.Kind
	KindsOf map[string][]format.Kind
	// Compression is for objects of text.
	Compression Compression
	// ObjectBytes is how much content an object has, before compression, apart from its
	// last record. Default 8 MiB.
	ObjectBytes int
}

// Preparer makes objects of the records of segments, one segment at a time.
type Preparer interface {
	// Prepare makes objects of what may leave of a segment, and gives them to w. It fails
	// when ctx ends, with the errors of w, and where it cannot go on, which may be
	// otherwise the next time. The objects that w has are right then, too.
	Prepare(ctx context.Context, job Job, w Work) (Prepared, error)
	// Close gives up what it holds. No Prepare is under way.
	Close() error
}

// Job is a segment to be prepared.
type Job struct {
	Spool   string
	Segment uint64
	// Hurry is for how long it may rest now and then, so that predictions do not wait.
	Hurry time.Duration
	// Stored are records that the destination has, by the kind of object.
	Stored map[string]residency.Spans
}

// Work is a segment as a Preparer meets it.
type Work interface {
	// Next is the next of its batches, nil after the last.
	Next() (*spool.Payload, error)
	// Beside is what lies beside a record.
	Beside(at *capture.Beside) ([]byte, error)
	// Object takes what records have become. It waits while as many are under way as may
	// be.
	Object(o *Object) error
}

// Object is records that have become one object, or one and payloads that it names, which
// come before it.
type Object struct {
	Model string
	// Records are their numbers, in the form of the audit log.
	Records string
	Count   int
	Items   []Item
}

// Prepared is what became of a segment, apart from objects.
type Prepared struct {
	// Withheld are records that the policy keeps here, and those that can never leave.
	Withheld int64
	// Unread are records whose bytes made no sense, in Damaged batches.
	Unread, Damaged int64
}

// recipe makes objects in this process.
type recipe struct {
	policy      *residency.Policy
	format      format.Options
	kindsOf     func(model string) []format.Kind
	compression Compression
	objectBytes int
	log         *slog.Logger
}

// newRecipe is what r says.
func newRecipe(r *Recipe, log *slog.Logger) (*recipe, error) {
	policy, err := residency.New(r.Residency)
	if err != nil {
		return nil, err
	}
	out := &recipe{policy: policy, format: r.Format, compression: r.Compression, objectBytes: objectBytes(r.ObjectBytes), log: log}
	out.format.Ref = func(key string) string { return r.Base + key }
	out.kindsOf = func(model string) []format.Kind {
		if kinds, ok := r.KindsOf[model]; ok {
			return kinds
		}
		return r.Kinds
	}
	return out, nil
}

// Prepare implements Preparer.
func (r *recipe) Prepare(ctx context.Context, job Job, w Work) (Prepared, error) {
	s := &segment{recipe: r, pace: newPace(ctx, job.Hurry), job: job, work: w, groups: map[string]*group{}}
	for {
		payload, err := w.Next()
		if err != nil || payload == nil {
			if err == nil {
				err = s.flushAll()
			}
			return s.out, err
		}
		var batch *spool.Batch
		s.pace.work(func() { batch, err = payload.Batch() })
		if err != nil {
			s.out.Damaged++
			s.out.Unread += int64(payload.Count - len(batch.Records))
			r.log.Warn("a part of a segment of captured records makes no sense", "segment", job.Segment, "error", err)
		}
		for left := batch.Records; len(left) > 0; {
			var failed error
			s.pace.work(func() { left, failed = s.takeSome(left) })
			if failed == nil {
				failed = s.flushFull()
			}
			if failed != nil {
				return s.out, failed
			}
		}
		if err := ctx.Err(); err != nil {
			return s.out, err
		}
	}
}

// Close implements Preparer.
func (*recipe) Close() error { return nil }

// segment is one that is being prepared.
type segment struct {
	*recipe
	pace *pace
	job  Job
	work Work

	groups map[string]*group // what becomes one object, by what its records share
	order  []string          // of groups, as they began
	held   int               // bytes in groups
	full   []*group          // those that became objects while records were taken
	out    Prepared
	warned bool
}

// group is records that become one object.
type group struct {
	kind    format.Kind
	records []format.Record
	bytes   int
}

// takeSome takes a stretch of records, or fewer where a group is full with them, and
// returns the others.
func (s *segment) takeSome(all []capture.Record) ([]capture.Record, error) {
	for range min(stretch, len(all)) {
		if err := s.take(&all[0]); err != nil {
			return nil, err
		}
		if all = all[1:]; len(s.full) > 0 {
			break
		}
	}
	return all, nil
}

// take puts what may leave of a record into the groups of its formats. It fails where
// what lies beside the record cannot be read now.
func (s *segment) take(captured *capture.Record) error {
	r, err := convert(s.work, captured)
	if err != nil && !errors.Is(err, spool.ErrDamaged) && !errors.Is(err, errUnfit) {
		return err
	}
	if err == nil {
		err = s.policy.Apply(&r)
	}
	if err != nil {
		s.out.Withheld++
		if !s.warned && s.policy.Samples(r.Model) { // where nothing may leave, that is no news
			s.warned = true
			s.log.Warn("a captured record does not leave; more of its segment may not either", "segment", s.job.Segment, "record", captured.ID.Sequence, "error", err)
		}
		return nil
	}
	kinds := s.kindsOf(r.Model)
	for _, kind := range kinds {
		if r.Truth != nil && kind == format.Edge && slices.Contains(kinds, format.Endpoint) {
			continue // an outcome has one form for both
		}
		if !s.job.Stored[kindOf(kind, r.Truth != nil)].Has(r.Number) {
			s.add(kind, r)
		}
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

// mostHeld bounds the records that wait for company, whatever the number of models.
const mostHeld = 64 << 20

func (s *segment) add(kind format.Kind, r format.Record) {
	key := fmt.Sprintf("%s %v %d %s", kind, r.Truth != nil, format.Hour(r.Time).Unix(), r.Model)
	g := s.groups[key]
	if g != nil && !format.SameObject(kind, &g.records[0], &r) {
		s.end(key)
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
	if g.bytes >= s.objectBytes {
		s.end(key)
	}
	for s.held > mostHeld {
		s.end(s.order[0])
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

// end has a group take no more records.
func (s *segment) end(key string) {
	g := s.groups[key]
	delete(s.groups, key)
	s.order = slices.DeleteFunc(s.order, func(k string) bool { return k == key })
	s.held -= g.bytes
	s.full = append(s.full, g)
}

func (s *segment) flushAll() error {
	for len(s.order) > 0 {
		s.end(s.order[0])
	}
	return s.flushFull()
}

// flushFull makes objects of the groups that have ended.
func (s *segment) flushFull() error {
	for _, g := range s.full {
		if err := s.object(g); err != nil {
			return err
		}
	}
	clear(s.full) // what they hold goes
	s.full = s.full[:0]
	return nil
}

// object makes one of a group, compresses it, and gives it away.
func (s *segment) object(g *group) error {
	o := s.format
	o.Kind = g.kind
	first := &g.records[0]
	b := &format.Batch{Spool: s.job.Spool, Segment: s.job.Segment, Model: first.Model, Truth: first.Truth != nil, Records: g.records}
	var made []format.Object
	var err error
	s.pace.work(func() { made, err = format.Encode(o, b) })
	if err != nil {
		// Which cannot be, as what is encoded was checked. But records that cannot be written
		// must not keep all others here for ever.
		s.log.Error("captured records cannot be written in their format, and do not leave", "segment", s.job.Segment, "model", first.Model, "format", g.kind, "records", len(g.records), "error", err)
		s.out.Withheld += int64(len(g.records))
		return nil //nolint:nilerr // they are counted
	}
	var numbers residency.Numbers
	for i := range g.records {
		numbers.Add(g.records[i].Number)
	}
	out := &Object{Model: first.Model, Records: numbers.String(), Count: len(g.records), Items: make([]Item, len(made))}
	for i := range made {
		s.pace.work(func() { err = newItem(&out.Items[i], &made[i], s.compression) })
		if err != nil {
			return err
		}
		if out.Items[i].Kind = kindOf(g.kind, b.Truth); made[i].Payload {
			out.Items[i].Kind = "payload"
		}
		made[i].Content = nil // it may be large
	}
	return s.work.Object(out)
}

// objectBytes is Recipe.ObjectBytes with its default.
func objectBytes(n int) int {
	if n <= 0 {
		return 8 << 20
	}
	return n
}

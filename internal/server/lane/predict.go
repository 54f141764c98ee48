package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/trace"
)

// part is a client's request in one of the engine's, which may be of several.
type part struct {
	id        uint64
	rows      int
	cancelled bool // and answered
	traced    bool
}

// run handles the requests that were read, model by model.
func (c *conn) run() {
	for i, m := range c.touched {
		c.touched[i] = nil
		c.runModel(m)
		clear(m.waiting)
		m.waiting = m.waiting[:0]
	}
	c.touched = c.touched[:0]
}

// runModel puts those requests of a model together that can be run as one.
func (c *conn) runModel(m *model) {
	snapshot, err := c.acquire(m)
	if err != nil {
		for _, f := range m.waiting {
			c.refuse(f.id, err, 0)
			c.traceRefused(m.name, nil, f.rows, err)
		}
		return
	}
	defer snapshot.Release()
	batch, rows := c.batch[:0], 0
	for _, f := range m.waiting {
		if err := m.check(f.rows, f.flags, len(f.payload), c.server.maxPayload); err != nil {
			snapshot.Refused(err)
			c.refuse(f.id, err, 0)
			c.traceRefused(m.name, snapshot, f.rows, err)
			continue
		}
		if len(batch) > 0 {
			first := batch[0]
			if !m.batchable || rows+int(f.rows) > m.maxRows || f.deadline != first.deadline || f.flags != first.flags {
				c.runBatch(m, snapshot, batch, rows)
				batch, rows = batch[:0], 0
			}
		}
		batch = append(batch, f)
		rows += int(f.rows)
	}
	if len(batch) > 0 {
		c.runBatch(m, snapshot, batch, rows)
	}
	clear(batch[:cap(batch)])
	c.batch = batch[:0]
}

// acquire is the model that has m's name now, which the caller releases.
func (c *conn) acquire(m *model) (*engine.Snapshot, error) {
	snapshot, err := c.server.engine.Acquire(m.name)
	if err != nil {
		return nil, err
	}
	if err := m.meet(snapshot); err != nil {
		snapshot.Release()
		return nil, err
	}
	return snapshot, nil
}

// runBatch makes one request of the batch and runs it, here or on a goroutine of
// its own.
func (c *conn) runBatch(m *model, snapshot *engine.Snapshot, batch []frame, rows int) {
	urgency := urgencyOf(batch[0].deadline, batch[0].flags)
	here := runsHere(snapshot, rows, batch[0].flags)
	var p prediction
	var err error
	if !here { // what runs at once is not refused
		err = snapshot.Refuses(rows, urgency.deadline, urgency.priority)
	}
	if err == nil {
		p, err = c.prepare(m, snapshot, rows, batch[0].flags, false)
	}
	if err != nil {
		said := failureOf(err, retryAfter(snapshot, err))
		for _, f := range batch {
			snapshot.Refused(err)
			c.tell(f.id, said)
			c.traceRefused(m.name, snapshot, f.rows, err)
		}
		return
	}
	at := 0
	for _, f := range batch {
		m.shape.fill(p.request.Inputs, at, int(f.rows), f.payload)
		at += int(f.rows)
	}
	urgency.of(p.request)
	p.request.Count = len(batch)
	parts := c.parts[:0]
	for _, f := range batch {
		parts = append(parts, part{id: f.id, rows: int(f.rows)})
	}
	c.parts = parts
	c.identify(&p, parts)
	c.trace(&p, parts)
	c.start(p, parts, here)
}

// runsHere tells whether the connection runs so many rows itself. What takes longer
// than handing it over would does not keep it from reading.
func runsHere(snapshot *engine.Snapshot, rows int, flags uint32) bool {
	return flags&lanewire.FlagExplain == 0 && snapshot.Inline(rows)
}

// prediction is a request of the engine and what was taken for it.
type prediction struct {
	name     string
	snapshot *engine.Snapshot
	shape    *shape
	request  *engine.Request
	reserved int64
	spans    *trace.Together // nil while none of its parts is traced
}

// prepare makes a request to be filled. arriving says that its rows were not read
// yet. The caller releases p with p.release, and counts an error with Refused.
func (c *conn) prepare(m *model, snapshot *engine.Snapshot, rows int, flags uint32, arriving bool) (p prediction, err error) {
	p = prediction{name: m.name, snapshot: snapshot, shape: m.shape}
	p.reserved = int64(m.shape.in.of(uint32(rows)) + m.shape.outputBytes(uint32(rows), flags))
	if flags&lanewire.FlagExplain != 0 {
		if err := snapshot.CanExplain(); err != nil {
			return p, err
		}
	}
	take := c.server.budget.Take
	if arriving {
		take = c.server.budget.TakeArriving
	}
	if err = take(p.reserved); err != nil {
		return p, err
	}
	if p.request, err = snapshot.NewRequest(rows); err != nil {
		c.server.budget.Give(p.reserved)
	}
	return p, err
}

func (p *prediction) release(b *local.Budget) {
	p.request.Release()
	b.Give(p.reserved)
}

// identify tells whoever captures what the parts of a request are called.
func (c *conn) identify(p *prediction, parts []part) {
	if !p.snapshot.Tapped() {
		return
	}
	p.request.SetOrigin(c.number)
	named := p.request.AddParts(len(parts))
	for i := range named {
		named[i] = engine.Part{Number: parts[i].id, Rows: parts[i].rows}
	}
}

// urgency is what a frame says of it, and of what is wanted.
type urgency struct {
	deadline time.Time
	priority engine.Priority
	explain  bool // contributions are wanted
}

// urgencyOf counts a frame's time from now, which is when it was read.
func urgencyOf(deadline, flags uint32) (u urgency) {
	if deadline > 0 {
		u.deadline = time.Now().Add(time.Duration(deadline) * time.Microsecond)
	}
	u.explain = flags&lanewire.FlagExplain != 0
	switch flags &^ lanewire.FlagExplain {
	case lanewire.FlagHigh:
		u.priority = engine.High
	case lanewire.FlagLow:
		u.priority = engine.Low
	}
	return u
}

func (u urgency) of(r *engine.Request) {
	r.Deadline, r.Priority, r.Explain = u.deadline, u.priority, u.explain
}

// start runs the request, here or elsewhere, and answers its parts.
func (c *conn) start(p prediction, parts []part, here bool) {
	if here {
		c.answer(&p, parts, p.request.Predict(context.Background()), &c.tensors)
		p.release(c.server.budget)
		return
	}
	c.started(&p, parts, c.startJob(p, parts))
}

// started answers the parts of a request that was not taken over by a job, because of err.
func (c *conn) started(p *prediction, parts []part, err error) {
	if err != nil {
		p.snapshot.Refused(err)
		for _, part := range parts {
			c.refuse(part.id, err, retryAfter(p.snapshot, err))
		}
		p.record(parts, err)
		p.release(c.server.budget)
	}
}

// answer answers the parts of a request that has ended with err. tensors is
// scratch. A request that failed is run in its parts, so that only the guilty
// fails.
func (c *conn) answer(p *prediction, parts []part, err error, tensors *[][]byte) {
	if err != nil {
		if errors.Is(err, engine.ErrRun) && len(parts) > 1 {
			c.answerAlone(p, parts)
			return
		}
		c.logInternal(p.name, err)
		for _, part := range parts {
			if !part.cancelled {
				c.refuse(part.id, err, retryAfter(p.snapshot, err))
			}
		}
		p.record(parts, err)
		return
	}
	at := 0
	for _, part := range parts {
		if !part.cancelled {
			*tensors = p.shape.parts((*tensors)[:0], p.request.Outputs, at, part.rows)
			h := lanewire.Header{Kind: lanewire.KindResult, ID: part.id, Rows: uint32(part.rows)}
			// An error is that of the connection, which ends by itself.
			_ = c.w.Append(context.Background(), &h, *tensors...)
		}
		at += part.rows
	}
	clear(*tensors)
	p.record(parts, nil)
}

// answerAlone runs each part of a request by itself.
func (c *conn) answerAlone(p *prediction, parts []part) {
	at := 0
	for _, one := range parts {
		first := at
		at += one.rows
		if one.cancelled {
			continue
		}
		alone := prediction{name: p.name, snapshot: p.snapshot, shape: p.shape, spans: p.spans}
		var err error
		if alone.request, err = p.snapshot.NewRequest(one.rows); err != nil {
			c.refuse(one.id, err, 0)
			alone.record([]part{one}, err)
			continue
		}
		for i, f := range p.shape.inputs {
			// Requests of several parts have rows in every tensor.
			copy(alone.request.Inputs[i].Bytes(), p.request.Inputs[i].Bytes()[first*f.bytes:])
		}
		alone.request.Deadline, alone.request.Priority, alone.request.Explain = p.request.Deadline, p.request.Priority, p.request.Explain
		c.identify(&alone, []part{one})
		if one.traced {
			alone.spans.Request(alone.request)
		}
		err = alone.request.Predict(context.Background())
		c.answer(&alone, []part{one}, err, new([][]byte))
		alone.request.Release()
	}
}

// refuse answers a request with an error.
func (c *conn) refuse(id uint64, err error, retry time.Duration) { c.tell(id, failureOf(err, retry)) }

// failureOf is what clients are told of an error.
func failureOf(err error, retry time.Duration) lanewire.Failure {
	f := lanewire.Failure{Code: uint32(failure.Code(err)), Retry: retry}
	if f.Code == uint32(codes.Internal) {
		f.Sentence = "predicting: the model failed; the reason is in the daemon's log"
	} else {
		f.Sentence = failure.Shorten(err.Error(), failure.MaxSentence)
	}
	return f
}

func (c *conn) tell(id uint64, f lanewire.Failure) {
	h := lanewire.Header{Kind: lanewire.KindError, ID: id}
	var usual [256]byte // most sentences are shorter
	// An error is that of the connection, which ends by itself.
	_ = c.w.Append(context.Background(), &h, f.Append(usual[:0]))
}

// logInternal logs what is not for clients.
func (c *conn) logInternal(name string, err error) {
	if failure.Code(err) == codes.Internal {
		c.server.log.Error("a call failed", "doing", "predicting over the lane", "model", name, "error", err)
	}
}

// The bounds of what clients are told to wait.
const (
	minRetry = time.Millisecond
	maxRetry = time.Second
)

// retryAfter is when asking again has a chance, 0 where it has none.
func retryAfter(s *engine.Snapshot, err error) time.Duration {
	if !errors.Is(err, engine.ErrBusy) && !errors.Is(err, engine.ErrMemory) {
		return 0
	}
	return min(max(s.Backlog(), minRetry), maxRetry)
}

func errNotOpen(handle uint32) error {
	return fmt.Errorf("%w: no model is open as handle %d on this connection", engine.ErrInvalidInput, handle)
}

package lane

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/lanewire"
)

// slowestBytesPerSecond is what a client is expected to send of a large frame.
const slowestBytesPerSecond = 8 << 20

// takeLarge handles a frame that is larger than a message. Its payload is still
// to be read, for the most part, and is read straight into the request's tensors.
func (c *conn) takeLarge(h *lanewire.Header) error {
	if h.Kind != lanewire.KindPredict {
		return &protocolError{codes.InvalidArgument, fmt.Sprintf("a frame of kind %d has %d bytes", h.Kind, h.Payload)}
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	due := time.Now().Add(c.server.patience.frame + time.Duration(h.Payload)*time.Second/slowestBytesPerSecond)
	m := c.model(h.Handle)
	if m == nil {
		c.refuse(h.ID, errNotOpen(h.Handle), 0)
		return c.skip(int(h.Payload), due)
	}
	snapshot, err := c.acquire(m)
	if err != nil {
		c.refuse(h.ID, err, 0)
		c.traceRefused(m.name, nil, h.Rows, err)
		return c.skip(int(h.Payload), due)
	}
	defer snapshot.Release()
	p, err := c.prepareLarge(m, snapshot, h)
	if err != nil {
		snapshot.Refused(err)
		c.refuse(h.ID, err, retryAfter(snapshot, err))
		c.traceRefused(m.name, snapshot, h.Rows, err)
		return c.skip(int(h.Payload), due)
	}
	for i, f := range m.shape.inputs {
		if err := c.readInto(p.request.Inputs[i].Bytes()[:f.size(int(h.Rows))], due); err != nil {
			p.release(c.server.budget)
			return err
		}
	}
	urgencyOf(h.Deadline, h.Flags).of(p.request)
	c.parts = append(c.parts[:0], part{id: h.ID, rows: int(h.Rows)})
	parts := c.parts
	c.identify(&p, parts)
	c.trace(&p, parts)
	switch {
	case runsHere(snapshot, int(h.Rows), h.Flags):
		c.start(p, parts, true)
	case c.runsAlone(snapshot, int(h.Rows), h.Flags):
		c.alone.job, err = c.enlist(p, parts)
		c.started(&p, parts, err)
	default:
		c.start(p, parts, false)
	}
	return nil
}

func (c *conn) prepareLarge(m *model, snapshot *engine.Snapshot, h *lanewire.Header) (prediction, error) {
	if err := m.check(h.Rows, h.Flags, int(h.Payload), c.server.maxPayload); err != nil {
		return prediction{}, err
	}
	return c.prepare(m, snapshot, int(h.Rows), h.Flags, true)
}

// readInto fills dst with what comes next: for the most part without a copy in between.
func (c *conn) readInto(dst []byte, due time.Time) error {
	for len(dst) > 0 {
		n := copy(dst, c.r.Buffered())
		c.r.Consume(n)
		if n == 0 {
			var err error
			if n, err = c.more(due, dst); err != nil {
				return err
			}
		}
		dst = dst[n:]
	}
	return nil
}

// skip drops the next n bytes.
func (c *conn) skip(n int, due time.Time) error {
	for n > 0 {
		b := c.r.Buffered()
		if len(b) == 0 {
			if _, err := c.more(due, nil); err != nil {
				return err
			}
			continue
		}
		some := min(n, len(b))
		c.r.Consume(some)
		n -= some
	}
	return nil
}

package lane

import "github.com/picket-ml/picket/engine"

// trace marks the parts whose turn it is to be traced, and has the request of one
// measured.
func (c *conn) trace(p *prediction, parts []part) {
	for at := c.lottery.Pick(len(parts)); at < len(parts); {
		if p.spans == nil {
			p.spans = c.server.tracer.Together()
			p.spans.Request(p.request)
		}
		parts[at].traced = true
		at++
		at += c.lottery.Pick(len(parts) - at)
	}
}

// traceRefused records a request that did not get as far as the engine, if its turn
// has come. snapshot is nil where there is no such model.
func (c *conn) traceRefused(name string, snapshot *engine.Snapshot, rows uint32, err error) {
	if c.lottery.Pick(1) == 0 {
		c.server.tracer.Together().Record(name, snapshot, int(rows), err)
	}
}

// record makes the spans of the parts that are traced, which have been told err.
func (p *prediction) record(parts []part, err error) {
	if p.spans == nil {
		return
	}
	for _, one := range parts {
		switch {
		case !one.traced:
		case one.cancelled:
			p.spans.Record(p.name, p.snapshot, one.rows, engine.ErrCanceled)
		default:
			p.spans.Record(p.name, p.snapshot, one.rows, err)
		}
	}
}

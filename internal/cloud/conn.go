package cloud

import (
	"context"
	"net"
	"time"

	"golang.org/x/time/rate"
)

// conn is a connection that keeps to a limit and fails where it falls silent.
type conn struct {
	net.Conn
	limiter *rate.Limiter // nil for none
	open    context.Context
	close   context.CancelFunc
}

func newConn(c net.Conn, limiter *rate.Limiter) *conn {
	out := &conn{Conn: c, limiter: limiter}
	out.open, out.close = context.WithCancel(context.Background())
	return out
}

// Read waits afterwards for as long as what came may take, so that the kernel's window
// slows the sender.
func (c *conn) Read(b []byte) (int, error) {
	if c.limiter != nil && len(b) > c.limiter.Burst() {
		b = b[:c.limiter.Burst()]
	}
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if c.limiter != nil && n > 0 {
		if limited := c.limiter.WaitN(c.open, n); limited != nil && err == nil {
			err = net.ErrClosed // it was closed meanwhile
		}
	}
	return n, err
}

// Write puts off the deadline of the answer, which comes after what is written.
func (c *conn) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		part := b
		if c.limiter != nil {
			part = b[:min(len(b), c.limiter.Burst())]
			if c.limiter.WaitN(c.open, len(part)) != nil {
				return written, net.ErrClosed
			}
		}
		if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(part)
		written += n
		if err != nil {
			return written, err
		}
		b = b[n:]
	}
	return written, nil
}

// Close ends waiting too.
func (c *conn) Close() error {
	c.close()
	return c.Conn.Close()
}

package oip

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/shm"
)

// conn is a connection whose first bytes were read to see what it speaks.
type conn struct {
	net.Conn
	front *front
	first []byte // read already, and not by whom the connection was given to
	who   owner
	once  sync.Once
	// due is when the greeting must be complete, whoever waits for it.
	due time.Time

	// Guarded by the front's lock.
	greeted bool      // calls can come
	http    bool      // and are HTTP/1's
	noticed time.Time // when closeSilent first saw it not greeted
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// SetDeadline implements net.Conn. gRPC sets a deadline for the greeting and
// takes it away once that is complete: nothing else tells. Its time began when the
// first bytes were waited for.
func (c *conn) SetDeadline(t time.Time) error {
	c.front.greet(c, t.IsZero())
	if t.After(c.due) {
		t = c.due
	}
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn; it may be called more than once.
func (c *conn) Close() error {
	c.once.Do(func() { c.front.forget(c) })
	return c.Conn.Close()
}

// Peer is the user at the other end of a Unix socket.
func (c *conn) Peer() (shm.Peer, error) { return c.front.peer(c.Conn) }

// Access is what the client may do.
func (c *conn) Access() *local.Access { return &c.front.access.Access }

// ownerOf is whose shared memory the client of a connection may use. Over TCP
// nobody knows who the client is: where shared memory was allowed there, it is the
// daemon's own user's.
func ownerOf(peer shm.Peer, err error, a Access) owner {
	switch {
	case err == nil:
		return owner{known: true, uid: peer.UID}
	case a.SharedMemory:
		return owner{known: true, uid: uint32(os.Geteuid())}
	}
	return owner{}
}

// connKey is under which net/http's contexts have the connection.
type connKey struct{}

// connOf is the connection that a call came over, nil when there is none.
func connOf(ctx context.Context) *conn {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		c, _ = local.ConnOf(ctx).(*conn)
	}
	return c
}

// callerOf is whose shared memory the caller may use.
func callerOf(ctx context.Context) owner {
	if c := connOf(ctx); c != nil {
		return c.who
	}
	return owner{}
}

// callerAttr says in a log line who made the call.
func callerAttr(ctx context.Context) slog.Attr {
	c := connOf(ctx)
	if c == nil {
		return slog.String("caller", "unknown")
	}
	if who, err := c.Peer(); err == nil {
		return slog.Group("caller", "uid", who.UID, "pid", who.PID)
	}
	return slog.String("caller", c.RemoteAddr().String())
}

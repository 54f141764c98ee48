package agent

import (
	"net"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/server/local"
)

// listener remembers which of its connections were not greeted yet.
type listener struct {
	*local.Listener

	mu   sync.Mutex
	open map[*connection]struct{}
}

func newListener(l *local.Listener) *listener {
	return &listener{Listener: l, open: make(map[*connection]struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptConn()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, listener: l}
	l.mu.Lock()
	l.open[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// closeSilent closes the connections that were not greeted within patience of
// the first call of closeSilent that saw them: no call can have come over them
// yet, and gRPC would wait for their clients to say something.
func (l *listener) closeSilent(patience time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for c := range l.open {
		if c.greeted {
			continue
		}
		if c.noticed.IsZero() {
			c.noticed = now
		}
		if now.Sub(c.noticed) >= patience {
			_ = c.UnixConn.Close() // c.Close, which takes it off the list, is gRPC's to call
		}
	}
}

// connection is an accepted connection that is remembered until it is closed.
type connection struct {
	*local.Conn
	listener *listener

	// Guarded by the listener's lock.
	greeted bool      // HTTP/2's greeting is complete, calls can come
	noticed time.Time // when closeSilent first saw it not greeted
}

// SetDeadline implements net.Conn. gRPC sets a deadline for the greeting and
// takes it away once that is complete: nothing else tells.
func (c *connection) SetDeadline(t time.Time) error {
	c.listener.mu.Lock()
	c.greeted = t.IsZero()
	c.listener.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn; it may be called more than once.
func (c *connection) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

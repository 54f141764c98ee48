package agent

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/server/local"
)

// listener remembers which of its connections were not greeted yet.
type listener struct {
	*local.Listener

	yielded atomic.Bool
	idle    chan struct{} // closed once nothing more is accepted, after yield
	closed  chan struct{}
	ends    [2]sync.Once // of idle and closed

	mu   sync.Mutex
	open map[*connection]struct{}
}

func newListener(l *local.Listener) *listener {
	return &listener{
		Listener: l, idle: make(chan struct{}), closed: make(chan struct{}), open: make(map[*connection]struct{}),
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptConn()
	if err != nil && l.yielded.Load() {
		// gRPC would take it for the end of the server.
		l.ends[0].Do(func() { close(l.idle) })
		<-l.closed
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, listener: l}
	l.mu.Lock()
	l.open[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// yield leaves the clients that come from now on to another process that has the same
// socket. Those that wait in the kernel's queue are not lost by that. It returns when
// gRPC has what was accepted before, or when ctx ends.
func (l *listener) yield(ctx context.Context) {
	l.yielded.Store(true)
	_ = l.UnixListener.Close() // whatever it says, nothing is accepted any more
	select {
	case <-l.idle:
	case <-l.closed:
	case <-ctx.Done():
	}
}

// Close implements net.Listener; it may be called more than once.
func (l *listener) Close() error {
	l.ends[1].Do(func() { close(l.closed) })
	if l.yielded.Load() {
		return nil
	}
	return l.Listener.Close()
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

// ungreeted tells whether a connection is open that was not greeted yet.
func (l *listener) ungreeted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if !c.greeted {
			return true
		}
	}
	return false
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

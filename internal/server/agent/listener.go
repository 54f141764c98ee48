package agent

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// refusalLogInterval keeps a client that reconnects in a loop from filling the
// log.
const refusalLogInterval = 10 * time.Second

// listener accepts up to limit connections at a time. A connection above it is
// closed at once: left in the kernel's queue, its client could not tell a full
// daemon from one that hangs.
type listener struct {
	*net.UnixListener
	log   *slog.Logger
	limit int

	mu       sync.Mutex
	open     map[*connection]struct{}
	refused  int
	lastSaid time.Time
	starved  time.Time // when it was last said that there are no file descriptors
}

func newListener(l *net.UnixListener, limit int, log *slog.Logger) *listener {
	return &listener{UnixListener: l, log: log, limit: limit, open: make(map[*connection]struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			l.sayWhy(err)
			return nil, err
		}
		if c := l.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close()
	}
}

// sayWhy logs what the operator can mend. gRPC tries again after such an error,
// many times a second, and says nothing.
func (l *listener) sayWhy(err error) {
	if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.starved) > refusalLogInterval {
		l.starved = now
		l.log.Error("accepting a connection: there are no file descriptors left; raise LimitNOFILE (ulimit -n), or lower limits.max_connections",
			"socket", l.Addr().String(), "clients", len(l.open), "error", err)
	}
}

// admit counts conn, or returns nil when there are too many.
func (l *listener) admit(conn *net.UnixConn) *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) < l.limit {
		c := &connection{UnixConn: conn, listener: l}
		l.open[c] = struct{}{}
		return c
	}
	l.refused++
	if now := time.Now(); now.Sub(l.lastSaid) > refusalLogInterval {
		l.lastSaid = now
		l.log.Warn("refusing connections: as many clients are connected as limits.max_connections allows",
			"socket", l.Addr().String(), "limit", l.limit, "refused", l.refused)
	}
	return nil
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

// connection is an accepted connection that is counted until it is closed.
type connection struct {
	*net.UnixConn
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
	return c.UnixConn.SetDeadline(t)
}

// Close implements net.Conn; it may be called more than once.
func (c *connection) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.UnixConn.Close()
}

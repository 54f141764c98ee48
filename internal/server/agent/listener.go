package agent

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
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
	limit int64

	open     atomic.Int64
	refused  atomic.Int64
	lastSaid time.Time // used by Accept only, which grpc calls from one goroutine
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.limit {
			return &connection{UnixConn: conn, listener: l}, nil
		}
		l.open.Add(-1)
		conn.Close()
		l.refused.Add(1)
		if now := time.Now(); now.Sub(l.lastSaid) > refusalLogInterval {
			l.lastSaid = now
			l.log.Warn("refusing connections: as many clients are connected as limits.max_connections allows",
				"socket", l.Addr().String(), "limit", l.limit, "refused", l.refused.Load())
		}
	}
}

// connection is an accepted connection that is counted until it is closed.
type connection struct {
	*net.UnixConn
	listener *listener
	closed   sync.Once
}

// Close implements net.Conn; it may be called more than once.
func (c *connection) Close() error {
	c.closed.Do(func() { c.listener.open.Add(-1) })
	return c.UnixConn.Close()
}

package local

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

// Listener accepts up to a limit of connections at a time. A connection above it
// is closed at once: left in the kernel's queue, its client could not tell a full
// daemon from one that hangs. Its methods may be called by many goroutines at
// once.
type Listener struct {
	*net.UnixListener
	log   *slog.Logger
	limit int

	mu       sync.Mutex
	open     int
	refused  int
	lastSaid time.Time
	starved  time.Time // when it was last said that there are no file descriptors
}

// NewListener takes over l and lets limit clients be connected to it at once.
func NewListener(l *net.UnixListener, limit int, log *slog.Logger) *Listener {
	return &Listener{UnixListener: l, log: log, limit: limit}
}

// Accept implements net.Listener; what it returns is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptConn()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptConn waits for the next client there is room for.
func (l *Listener) AcceptConn() (*Conn, error) {
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

// sayWhy logs what the operator can mend. Servers try again after such an error,
// many times a second, and say nothing.
func (l *Listener) sayWhy(err error) {
	if !OutOfFiles(err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.starved) > refusalLogInterval {
		l.starved = now
		l.log.Error("accepting a connection: there are no file descriptors left; raise LimitNOFILE (ulimit -n), or lower limits.max_connections",
			"socket", l.Addr().String(), "clients", l.open, "error", err)
	}
}

// OutOfFiles tells whether accepting failed because the process or the system
// has no file descriptors left, which passes.
func OutOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// admit counts conn, or returns nil when there are too many.
func (l *Listener) admit(conn *net.UnixConn) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.limit {
		l.open++
		return &Conn{UnixConn: conn, listener: l}
	}
	l.refused++
	if now := time.Now(); now.Sub(l.lastSaid) > refusalLogInterval {
		l.lastSaid = now
		l.log.Warn("refusing connections: as many clients are connected as limits.max_connections allows",
			"socket", l.Addr().String(), "limit", l.limit, "refused", l.refused)
	}
	return nil
}

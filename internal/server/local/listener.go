package local

import (
	"log/slog"
	"net"
)

// Listener accepts up to a limit of connections at a time. A connection above it
// is closed at once: left in the kernel's queue, its client could not tell a full
// daemon from one that hangs. Its methods may be called by many goroutines at
// once.
type Listener struct {
	*net.UnixListener
	gate *Gate
}

// NewListener takes over l and lets limit clients be connected to it at once.
func NewListener(l *net.UnixListener, limit int, log *slog.Logger) *Listener {
	return &Listener{UnixListener: l, gate: NewGate(l.Addr(), limit, log)}
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
			l.gate.SayWhy(err)
			return nil, err
		}
		if l.gate.Enter() {
			return &Conn{UnixConn: conn, gate: l.gate}, nil
		}
		_ = conn.Close()
	}
}

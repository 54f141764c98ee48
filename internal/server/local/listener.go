package local

import (
	"log/slog"
	"net"
)

// Listener accepts up to a limit of connections at a time, from those who may connect. Others are closed at once. Its methods may be
// called by many goroutines at once.
type Listener struct {
	*net.UnixListener
	gate *Gate
}

// NewListener takes over l and lets limit clients be connected to it at once, those whom access admits.
func NewListener(l *net.UnixListener, limit int, access Access, log *slog.Logger) *Listener {
	return &Listener{UnixListener: l, gate: NewGate(l.Addr(), limit, access, log)}
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
		if c, ok := l.gate.admit(conn); ok {
			return c, nil
		}
	}
}

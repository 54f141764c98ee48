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

// Gate counts the clients of one socket, and tells the operator why some were
// turned away. Its methods may be called by many goroutines at once.
type Gate struct {
	addr  net.Addr
	log   *slog.Logger
	limit int

	mu       sync.Mutex
	open     int
	refused  int
	lastSaid time.Time
	starved  time.Time // when it was last said that there are no file descriptors
}

// NewGate lets limit clients of the socket at addr be connected at once.
func NewGate(addr net.Addr, limit int, log *slog.Logger) *Gate {
	return &Gate{addr: addr, limit: limit, log: log}
}

// Enter counts one more client, or reports that there are too many.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open < g.limit {
		g.open++
		return true
	}
	g.refused++
	if now := time.Now(); now.Sub(g.lastSaid) > refusalLogInterval {
		g.lastSaid = now
		g.log.Warn("refusing connections: as many clients are connected as limits.max_connections allows",
			"socket", g.addr.String(), "limit", g.limit, "refused", g.refused)
	}
	return false
}

// Leave takes back what Enter counted.
func (g *Gate) Leave() {
	g.mu.Lock()
	g.open--
	g.mu.Unlock()
}

// SayWhy logs why accepting failed where the operator can mend it. Servers try
// again after such an error, many times a second, and say nothing.
func (g *Gate) SayWhy(err error) {
	if !OutOfFiles(err) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.starved) > refusalLogInterval {
		g.starved = now
		g.log.Error("accepting a connection: there are no file descriptors left; raise LimitNOFILE (ulimit -n), or lower limits.max_connections",
			"socket", g.addr.String(), "clients", g.open, "error", err)
	}
}

// OutOfFiles tells whether accepting failed because the process or the system
// has no file descriptors left, which passes.
func OutOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

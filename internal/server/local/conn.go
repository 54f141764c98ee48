package local

import (
	"net"
	"sync"

	"github.com/picket-ml/picket/internal/shm"
)

// Conn is an accepted connection that is counted until it is closed.
type Conn struct {
	*net.UnixConn
	gate *Gate
	once sync.Once
}

// Close implements net.Conn; it may be called more than once.
func (c *Conn) Close() error {
	c.once.Do(c.gate.Leave)
	return c.UnixConn.Close()
}

// Peer is the user at the other end.
func (c *Conn) Peer() (shm.Peer, error) { return shm.PeerCred(c.UnixConn) }

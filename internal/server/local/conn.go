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
	peer shm.Peer
	once sync.Once
}

// Close implements net.Conn; it may be called more than once.
func (c *Conn) Close() error {
	c.once.Do(func() { c.gate.leave(c.peer.UID) })
	return c.UnixConn.Close()
}

// Peer is the user at the other end, as it was when the connection was accepted.
func (c *Conn) Peer() (shm.Peer, error) { return c.peer, nil }

// Access is what the client may do.
func (c *Conn) Access() *Access { return &c.gate.access }

package lane

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/ring"
)

// rings bounds the rings of a Server.
type rings struct {
	most  int64
	now   atomic.Int64
	spins *ring.Spins
}

func (r *rings) init(most int) {
	r.most, r.spins = int64(most), ring.NewSpins(runtime.GOMAXPROCS(0))
}

// take counts one more, or reports that there are too many.
func (r *rings) take() bool {
	if r.now.Add(1) <= r.most {
		return true
	}
	r.now.Add(-1)
	return false
}

func (r *rings) give() { r.now.Add(-1) }

// welcome answers the hello of that id: with a ring if the client wants one and
// there is one, after which the connection goes on there.
func (c *conn) welcome(id uint64, hello lanewire.Hello) error {
	answer := lanewire.Header{Kind: lanewire.KindWelcome, ID: id}
	welcome := lanewire.Welcome{
		Version: lanewire.Version, MaxMessage: lanewire.MaxMessage, MaxPayload: c.server.maxPayload,
		MaxOutstanding: maxOutstanding, MaxModels: maxModels, Connection: c.number,
	}
	if hello.Features&lanewire.FeatureRing == 0 {
		return c.w.Append(context.Background(), &answer, welcome.Append(nil))
	}
	if len(c.r.Buffered()) > 0 {
		return &protocolError{codes.InvalidArgument, "more came behind a hello that asks for a ring: wait for the answer, which says where to go on"}
	}
	if !c.server.rings.take() {
		return c.w.Append(context.Background(), &answer, welcome.Append(nil))
	}
	made, fd, err := ring.New(c.server.rings.spins)
	if err != nil {
		c.server.rings.give()
		c.server.log.Warn("a client stays on its socket", "error", err)
		return c.w.Append(context.Background(), &answer, welcome.Append(nil))
	}
	defer closeDescriptor(fd)
	welcome.Features = lanewire.FeatureRing
	c.use(made)
	return c.handOver(&answer, welcome.Append(nil), fd)
}

// use has the connection go on in the ring, which it owns from now on, until
// leaveRing. The socket is only watched for its end.
func (c *conn) use(made *ring.Ring) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring = made
	c.r.UseRing(made)
	c.w.UseRing(made)
	c.until = time.Time{}
	if c.woken {
		made.SetReadDeadline(time.Unix(1, 0)) // as wake has set it for the socket
	}
	c.watched = make(chan struct{})
	go c.watch()
}

// watch ends the ring's streams when the client ends, or sends to the socket what
// it should not.
func (c *conn) watch() {
	defer close(c.watched)
	var b [1]byte
	if c.net.SetReadDeadline(time.Time{}) == nil {
		_, _ = c.net.Read(b[:]) // whatever comes of it is the end
	}
	c.ring.Close()
}

// leaveRing gives back what use took, once the connection is closed and nobody
// reads or writes any more.
func (c *conn) leaveRing() {
	if c.ring == nil {
		return
	}
	<-c.watched
	if err := c.ring.Unmap(); err != nil {
		c.server.log.Error("a client's memory stays mapped", "error", err)
	}
	c.server.rings.give()
}

// handOver sends a frame over the socket, and the descriptor of the ring with it.
func (c *conn) handOver(h *lanewire.Header, payload []byte, fd int) error {
	h.Payload = uint32(len(payload))
	frame := make([]byte, lanewire.HeaderSize, lanewire.HeaderSize+len(payload))
	h.Put(frame)
	frame = append(frame, payload...)
	if err := c.net.SetWriteDeadline(time.Now().Add(c.server.patience.write)); err != nil {
		return err
	}
	n, _, err := c.net.WriteMsgUnix(frame, descriptorRights(fd), nil)
	if err == nil && n < len(frame) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("handing over a ring: %w", err)
	}
	return nil
}

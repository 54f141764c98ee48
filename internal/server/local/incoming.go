package local

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/internal/server/failure"
)

// incoming is what a call has sent so far. It is the call's context too.
type incoming struct {
	context.Context
	watched *watched
	inflow  *Inflow
	stream  bool // it may be idle between messages

	// For the goroutine that reads the connection alone.
	at       int // in watched.waiting, plus 1; 0 when nothing of it is missing
	prefix   [5]byte
	have     int   // of prefix
	left     int64 // bytes of the message that are missing
	inflated int64 // what the message may have become, where it is compressed
	size     int64 // what was taken for the message
	finished bool  // nothing more comes
	began    time.Time
	got      int64 // since then

	started atomic.Bool // a handler has it, and ends it

	mu      sync.Mutex
	writer  statusWriter // once a handler has it
	taken   int64
	ended   bool
	refused error   // why the call was given up
	sizes   []int64 // of the messages of a stream that wait for the handler, or are in its hands
	inHands bool    // the first of them is
}

// statusWriter is gRPC's own stream, as it is in a handler's context: it is the one way to end a call whose handler waits for a message.
// What gRPC says itself when it gives up waiting has no other code than CANCELLED.
type statusWriter interface {
	WriteStatus(*status.Status) error
}

// incomingKey is under which a context has the incoming that it is, or comes from.
type incomingKey struct{}

// Value implements context.Context.
func (c *incoming) Value(key any) any {
	if key == (incomingKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// incomingOf is the call that ctx belongs to. Where no one watches, that is one of which nothing is known.
func incomingOf(ctx context.Context) *incoming {
	if c, ok := ctx.Value(incomingKey{}).(*incoming); ok {
		return c
	}
	return &incoming{ended: true}
}

// start is for a handler that has the call from now on. It fails where the call was given up before.
func (c *incoming) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started.Store(true)
	c.writer, _ = grpc.ServerTransportStreamFromContext(ctx).(statusWriter)
	if c.writer == nil {
		return errors.New("BUG: gRPC has no stream for the call")
	}
	return c.refused
}

// take counts n bytes more, or gives the call up. What comes after the end is dropped by gRPC and counts no more.
func (c *incoming) take(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.refused != nil {
		return
	}
	if err := c.inflow.budget.Take(n); err != nil {
		c.refuse(failure.Status(failure.Code(err), err.Error(), failure.RetryAfter(err, 0)))
		return
	}
	c.taken += n
	c.size += n
}

// giveUp ends the call with an error that is a status.
func (c *incoming) giveUp(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && c.refused == nil {
		c.refuse(why)
	}
}

// refuse tells the client, and with that ends the context and the handler's waiting. The lock is held.
func (c *incoming) refuse(why error) {
	c.refused = why
	if c.writer != nil && c.writer.WriteStatus(status.Convert(why)) != nil {
		_ = c.watched.Close() // a connection that cannot be written to
	}
}

// complete is for a message that has come.
func (c *incoming) complete() {
	if c.stream {
		c.mu.Lock()
		c.sizes = append(c.sizes, c.size)
		c.mu.Unlock()
	}
	c.size, c.have, c.inflated = 0, 0, 0
	c.began, c.got = time.Time{}, 0 // the next one has its own time
}

// received notes that the handler of a stream was given a message.
func (c *incoming) received(ok bool) {
	c.mu.Lock()
	c.inHands = ok
	c.mu.Unlock()
}

// release gives back what the message in the handler's hands took.
func (c *incoming) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inHands || len(c.sizes) == 0 || c.ended {
		return
	}
	c.inHands = false
	c.inflow.budget.Give(c.sizes[0])
	c.taken -= c.sizes[0]
	c.sizes = c.sizes[1:]
}

// end gives back everything. It may be called more than once.
func (c *incoming) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	c.inflow.budget.Give(c.taken)
	c.taken, c.sizes = 0, nil
}

func (c *incoming) isEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// missing tells whether the client owes something.
func (c *incoming) missing() bool {
	return !c.finished && (!c.stream || c.have > 0)
}

// due is when it must be there.
func (c *incoming) due() time.Time { return c.began.Add(c.inflow.patience.For(c.got)) }

// data goes through bytes of the call's messages: each is a prefix, of one byte that tells whether it is compressed and four of its
// length, and that many bytes.
func (c *incoming) data(b []byte) {
	for len(b) > 0 {
		if c.have < len(c.prefix) {
			n := copy(c.prefix[c.have:], b)
			c.have += n
			c.got += int64(n)
			b = b[n:]
			if c.have < len(c.prefix) {
				return
			}
			c.left = int64(binary.BigEndian.Uint32(c.prefix[1:]))
		} else {
			n := min(int64(len(b)), c.left)
			c.left -= n
			c.got += n
			b = b[n:]
			if c.prefix[0] == 1 {
				c.inflate(n)
			}
		}
		if c.left == 0 {
			c.complete()
		}
	}
}

// inflate counts what n compressed bytes may become.
func (c *incoming) inflate(n int64) {
	more := min(n*mostInflated, c.inflow.maxMessage-c.inflated)
	c.inflated += more
	c.take(more)
}

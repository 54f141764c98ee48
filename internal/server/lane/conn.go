package lane

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/ring"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/shm"
	"github.com/picket-ml/picket/internal/trace"
)

// conn is one client. Its goroutine, serve, owns everything that is not guarded.
type conn struct {
	server  *Server
	net     *local.Conn
	socket  *lanewire.Socket // of net, as which it can be used only at the beginning and beside a ring
	peer    shm.Peer
	number  [16]byte // random: the half of an inference's name that captured records have
	r       *lanewire.Reader
	w       *lanewire.Writer // may be used by any goroutine
	ring    *ring.Ring       // what r and w use in the place of net; nil as a rule
	watched chan struct{}    // closed when nobody waits for the end of net any more

	models  []*model // by handle, which counts from 1
	byName  map[string]*model
	touched []*model // those with requests that wait
	batch   []frame  // scratch
	parts   []part   // scratch
	tensors [][]byte // scratch
	lottery trace.Lottery

	until    time.Time // the read deadline as it was set last
	slow     time.Time // when the rest of a frame is due; zero while none is begun
	farewell time.Time // after the goodbye: when no more requests are taken

	jobs    sync.WaitGroup
	greeted atomic.Bool

	mu          sync.Mutex
	first       *job      // those under way, in a list
	outstanding int       // requests in them
	fewer       sync.Cond // of mu: there are fewer, or nobody wants answers
	gone        bool      // nobody wants their answers
	woken       bool      // Shutdown asks for a goodbye
}

func newConn(s *Server, accepted *local.Conn) (*conn, error) {
	c := &conn{server: s, net: accepted, byName: make(map[string]*model), lottery: s.tracer.Lottery()}
	_, _ = rand.Read(c.number[:]) // it never fails
	c.fewer.L = &c.mu
	var err error
	if c.peer, err = accepted.Peer(); err != nil {
		return nil, err
	}
	if c.socket, err = lanewire.NewSocket(accepted.UnixConn, s.rings.spins); err != nil {
		return nil, err
	}
	c.r, c.w = lanewire.NewReader(c.socket), lanewire.NewWriter(c.socket, s.patience.write, false)
	c.r.Spin(s.rings.spins)
	c.w.Spin(s.rings.spins)
	return c, nil
}

// errLeave ends a connection that nothing is wrong with.
var errLeave = errors.New("the connection is done with")

// protocolError is what a client did that ends its connection.
type protocolError struct {
	code     codes.Code
	sentence string
}

func (e *protocolError) Error() string { return e.sentence }

// serve is the whole life of the connection.
func (c *conn) serve() {
	err := c.greet()
	c.greeted.Store(true)
	for err == nil {
		if err = c.take(); err == nil {
			err = c.next()
		}
	}
	var broken *protocolError
	switch {
	case errors.As(err, &broken):
		c.server.log.Debug("a client was disconnected", "reason", err, "uid", c.peer.UID, "pid", c.peer.PID)
		c.fail(broken)
	case errors.Is(err, errLeave):
		c.jobs.Wait()
		if c.w.Flush() == nil {
			c.linger(c.server.patience.quiet)
		}
	default:
		// The client has left, or reads nothing: nobody wants an answer.
		c.cut()
	}
	c.jobs.Wait()
	c.close()
	c.w.Idle()
	c.r.Close()
	c.leaveRing()
}

// fail tells the client why it is disconnected.
func (c *conn) fail(why *protocolError) {
	failure := lanewire.Failure{Code: uint32(why.code), Sentence: why.sentence}
	h := lanewire.Header{Kind: lanewire.KindError, Flags: lanewire.FlagFatal}
	if c.w.Append(context.Background(), &h, failure.Append(nil)) != nil || c.w.Flush() != nil {
		c.cut()
		return
	}
	c.dropJobs()
	c.linger(c.server.patience.farewell)
}

// linger says that nothing more is written, and drops what the client still
// sends, for so long at most. A client whose bytes were not read is told of that
// before it is given what was written to it.
func (c *conn) linger(most time.Duration) {
	if errors.Join(c.socket.CloseWrite(), c.r.SetDeadline(time.Now().Add(most))) != nil {
		return
	}
	for {
		c.r.Consume(len(c.r.Buffered()))
		if c.r.Fill() != nil {
			return
		}
	}
}

// cut closes the connection at once. It may be called by any goroutine.
func (c *conn) cut() {
	c.dropJobs()
	c.close()
}

// close closes the connection. It may be called by any goroutine, and more than once.
func (c *conn) close() {
	_ = c.socket.Close()
	_ = c.net.Close() // so that it is not counted any more
}

// wake has the connection say goodbye. It may be called by any goroutine.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	_ = c.r.SetDeadline(time.Unix(1, 0)) // of a connection that is closed already
}

// greet waits for the hello and answers it. Clients that have not said theirs
// when the server stops are not waited for.
func (c *conn) greet() error {
	if err := c.setDeadline(time.Now().Add(c.server.patience.greeting)); err != nil {
		return err
	}
	var h lanewire.Header
	for {
		b := c.r.Buffered()
		if len(b) >= lanewire.HeaderSize {
			if err := h.Parse(b); err != nil {
				return &protocolError{codes.InvalidArgument, err.Error() + "; is this a client of the lane?"}
			}
			if h.Kind != lanewire.KindHello || h.Payload > maxControl {
				return &protocolError{codes.FailedPrecondition, fmt.Sprintf("the first frame is of kind %d with %d bytes: a client says hello first", h.Kind, h.Payload)}
			}
			if size := lanewire.HeaderSize + int(h.Payload); len(b) >= size {
				hello, err := parseHello(b[lanewire.HeaderSize:size])
				c.r.Consume(size)
				if err != nil {
					return err
				}
				return c.welcome(h.ID, hello)
			}
		}
		if _, err := c.fill(nil); err != nil {
			return err
		}
	}
}

// fill reads once: n bytes into the beginning of dst where that has room for more than
// a message and nothing is buffered, else to what is buffered. A message that is too
// large is the client's mistake, and told.
func (c *conn) fill(dst []byte) (n int, err error) {
	if len(dst) > lanewire.MaxMessage {
		n, err = c.r.Read(dst)
	} else {
		err = c.r.Fill()
	}
	if errors.Is(err, lanewire.ErrMessage) {
		return 0, &protocolError{codes.InvalidArgument, err.Error()}
	}
	return n, err
}

// maxControl is the most bytes of a payload that is not of numbers.
const maxControl = 4 << 10

func parseHello(payload []byte) (lanewire.Hello, error) {
	hello, err := lanewire.ParseHello(payload)
	if err != nil {
		return hello, &protocolError{codes.InvalidArgument, err.Error()}
	}
	if hello.Lowest > lanewire.Version || hello.Highest < lanewire.Version {
		return hello, &protocolError{codes.FailedPrecondition, fmt.Sprintf(
			"the client speaks the versions %d to %d of the lane, this server version %d", hello.Lowest, hello.Highest, lanewire.Version)}
	}
	return hello, nil
}

// next waits for more to read.
func (c *conn) next() error {
	switch {
	case len(c.r.Buffered()) == 0:
		c.slow = time.Time{}
	case c.slow.IsZero():
		c.slow = time.Now().Add(c.server.patience.frame)
	}
	_, err := c.more(c.slow, nil)
	return err
}

// more is fill, until due if that is not zero. When the server stops meanwhile it
// says goodbye and goes on for a while.
func (c *conn) more(due time.Time, dst []byte) (n int, err error) {
	for {
		if !c.farewell.IsZero() {
			end := time.Now().Add(c.server.patience.quiet)
			if !due.IsZero() || end.After(c.farewell) {
				end = c.farewell
			}
			due = end
		}
		if err := c.setDeadline(due); err != nil {
			return 0, err
		}
		n, err := c.fill(dst)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, io.EOF) && len(c.r.Buffered()) > 0:
			return 0, fmt.Errorf("the client left in the middle of a frame: %w", err)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case !c.farewell.IsZero():
			return 0, errLeave
		case c.isWoken():
			c.farewell = time.Now().Add(c.server.patience.farewell)
			h := lanewire.Header{Kind: lanewire.KindGoodbye}
			if err := errors.Join(c.w.Append(context.Background(), &h), c.w.Flush()); err != nil {
				return 0, err
			}
		default:
			return 0, &protocolError{codes.DeadlineExceeded, fmt.Sprintf("the rest of a frame did not come within %v", c.server.patience.frame)}
		}
	}
}

// setDeadline sets the read deadline, unless it is in force already. What wake
// has set stays until the goodbye is said.
func (c *conn) setDeadline(t time.Time) error {
	if t.Equal(c.until) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.woken && c.farewell.IsZero() {
		return nil
	}
	c.until = t
	return c.r.SetDeadline(t)
}

func (c *conn) isWoken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.woken
}

// take handles all whole frames that were read, and writes the answers that are
// there.
func (c *conn) take() error {
	b, used := c.r.Buffered(), 0
	var h lanewire.Header
	for len(b)-used >= lanewire.HeaderSize {
		if err := h.Parse(b[used:]); err != nil {
			return c.settled(&protocolError{codes.InvalidArgument, err.Error()})
		}
		if h.Payload > c.server.maxPayload {
			return c.settled(&protocolError{codes.ResourceExhausted, fmt.Sprintf(
				"a frame has %d bytes, the limit is %d: send fewer rows at once, or raise limits.max_message", h.Payload, c.server.maxPayload)})
		}
		size := lanewire.HeaderSize + int(h.Payload)
		if size > lanewire.MaxMessage {
			c.run()
			c.r.Consume(used + lanewire.HeaderSize)
			if err := c.takeLarge(&h); err != nil {
				return c.settled(err)
			}
			b, used, c.slow = c.r.Buffered(), 0, time.Time{}
			continue
		}
		if len(b)-used < size {
			break
		}
		if err := c.dispatch(&h, b[used+lanewire.HeaderSize:used+size]); err != nil {
			return c.settled(err)
		}
		used += size
		c.slow = time.Time{}
	}
	c.run()
	c.r.Consume(used)
	return c.w.Flush()
}

// settled answers what came before the frame that ends the connection with err.
func (c *conn) settled(err error) error {
	c.run()
	return err
}

// dispatch handles one whole frame. The payload is good until the next read.
func (c *conn) dispatch(h *lanewire.Header, payload []byte) error {
	switch h.Kind {
	case lanewire.KindPredict:
		m := c.model(h.Handle)
		if m == nil {
			c.refuse(h.ID, errNotOpen(h.Handle), 0)
			return nil
		}
		if len(m.waiting) == 0 {
			c.touched = append(c.touched, m)
		}
		m.waiting = append(m.waiting, frame{h.ID, h.Rows, h.Deadline, h.Flags, payload})
		return nil
	case lanewire.KindOpen:
		c.run()
		return c.open(h, payload)
	case lanewire.KindCancel:
		c.run()
		c.cancel(h.ID)
		return nil
	default:
		return &protocolError{codes.InvalidArgument, fmt.Sprintf("a frame of kind %d is not for a client to send now", h.Kind)}
	}
}

// model is the open model of that handle, or nil.
func (c *conn) model(handle uint32) *model {
	if handle == 0 || uint64(handle) > uint64(len(c.models)) {
		return nil
	}
	return c.models[handle-1]
}

package lane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/ring"
)

// Options change how a Client connects. The zero value is right as a rule.
type Options struct {
	// Stream is for a socket of type SOCK_STREAM (lane-stream.sock). A Client
	// finds out by itself; with Stream it saves an attempt.
	Stream bool
	// Timeout bounds connecting, and what a daemon that reads nothing is waited
	// for. Default 10 s.
	Timeout time.Duration
	// Ring asks the daemon for a ring in shared memory: requests and answers then take
	// no call of the kernel while both sides are busy, and each caller who waits for
	// the next answer holds a thread. Where the daemon has none to give, the
	// connection stays on its socket; Client.HasRing tells.
	Ring bool
	// MaxBackoff is the longest pause between attempts to connect again. Default
	// 1 s.
	MaxBackoff time.Duration
}

// minBackoff is the pause after the first attempt that failed.
const minBackoff = 5 * time.Millisecond

// Client is a connection to a daemon, made anew when it is lost. Its methods may
// be called by many goroutines at once.
type Client struct {
	path    string
	options Options
	spins   *ring.Spins

	mu      sync.Mutex
	current *session
	closed  bool
	dialing chan struct{} // one token: whoever has it connects
}

// Dial connects to the lane of the daemon at path, such as
// /run/picket/lane.sock. The caller closes the Client.
func Dial(ctx context.Context, path string, o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = time.Second
	}
	c := &Client{path: path, options: o, dialing: make(chan struct{}, 1), spins: ring.NewSpins(runtime.GOMAXPROCS(0))}
	s, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.current = s
	return c, nil
}

// Close ends the connection; what is under way fails.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	s := c.current
	c.mu.Unlock()
	if s != nil {
		s.end(unavailable("the client was closed", nil))
		<-s.ended
	}
	return nil
}

// HasRing tells whether the connection of now is a ring.
func (c *Client) HasRing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current != nil && c.current.ring != nil
}

// Model asks for the model of that name.
func (c *Client) Model(ctx context.Context, name string) (*Model, error) {
	m := &Model{client: c, name: name}
	if _, err := m.open(ctx); err != nil {
		return nil, fmt.Errorf("opening model %q: %w", name, err)
	}
	return m, nil
}

// session is one that can be used, made if there is none. It tries until ctx ends
// where ctx has an end, else once.
func (c *Client) session(ctx context.Context) (*session, error) {
	if s, err := c.usable(); s != nil || err != nil {
		return s, err
	}
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	pause := minBackoff
	for {
		if s, err := c.usable(); s != nil || err != nil {
			return s, err
		}
		s, err := c.connect(ctx)
		if err == nil {
			return s, c.use(s)
		}
		if _, has := ctx.Deadline(); !has || !passes(err) {
			return nil, err
		}
		// Clients that lost the same daemon do not all come back at once.
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
		pause = min(2*pause, c.options.MaxBackoff)
	}
}

// usable is the session of now, nil if there is none.
func (c *Client) usable() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, unavailable("the client was closed", nil)
	}
	if c.current != nil && c.current.isUsable() {
		return c.current, nil
	}
	return nil, nil
}

// use makes s the session of now.
func (c *Client) use(s *session) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.end(unavailable("the client was closed", nil))
		return unavailable("the client was closed", nil)
	}
	c.current = s
	return nil
}

// passes tells whether an error of connecting may go away by itself.
func passes(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, errHungUp)
}

// errHungUp: the daemon closed a connection before it said anything.
var errHungUp = errors.New("the daemon closed the connection at once; it may be ending, or have as many clients as limits.max_connections allows")

// connect makes a connection and greets.
func (c *Client) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	networks := []string{"unixpacket", "unix"}
	if c.options.Stream {
		networks = networks[1:]
	}
	var dialer net.Dialer
	var conn net.Conn
	var err error
	for _, network := range networks {
		// A socket of the other type answers with EPROTOTYPE.
		if conn, err = dialer.DialContext(ctx, network, c.path); !errors.Is(err, syscall.EPROTOTYPE) {
			break
		}
	}
	if err != nil {
		return nil, unavailable("connecting to the lane at "+c.path, err)
	}
	s, err := newSession(conn.(*net.UnixConn), c.options.Timeout, c.spins)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	greet := s.greet
	if c.options.Ring {
		greet = func(deadline time.Time) error { return s.greetForRing(deadline, c.spins) }
	}
	if err := greet(deadline); err != nil {
		_ = conn.Close()
		var said *Error
		switch {
		case errors.As(err, &said):
			return nil, err
		case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
			err = errHungUp
		}
		return nil, unavailable("greeting the daemon at "+c.path, err)
	}
	if s.ring != nil {
		go s.watch()
	} else {
		go s.receive()
	}
	return s, nil
}

// deadlineOf is a deadline as the protocol has it: microseconds from now, at least
// 1, and 0 for none or one that is too far off to be said.
func deadlineOf(ctx context.Context) uint32 {
	t, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	us := time.Until(t).Microseconds()
	if us >= 1<<32 {
		return 0
	}
	return uint32(max(us, 1))
}

// ended is the error of a context that has ended.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Code: DeadlineExceeded, Sentence: "no answer before the deadline"}
	}
	return &Error{Code: Canceled, Sentence: "canceled by the caller"}
}

// hello is the frame that a client begins with.
func hello(features uint32) []byte {
	payload := lanewire.Hello{Lowest: lanewire.Version, Highest: lanewire.Version, Features: features}.Append(nil)
	h := lanewire.Header{Kind: lanewire.KindHello, Payload: uint32(len(payload))}
	frame := make([]byte, lanewire.HeaderSize, lanewire.HeaderSize+len(payload))
	h.Put(frame)
	return append(frame, payload...)
}

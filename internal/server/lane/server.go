package lane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/trace"
)

// Options is what a Server is made of. Zero limits take the values named here.
type Options struct {
	// Engine has the models. The Server does not close it.
	Engine *engine.Engine
	// Log gets the reasons that are not for clients. Nil for none.
	Log *slog.Logger
	// MaxMessage is the largest payload of a frame in bytes, either way.
	// Default 80 MiB, at most 2 GiB less one byte.
	MaxMessage int64
	// MaxConnections is how many clients may be connected to one listener; more
	// are disconnected at once. Default 1024.
	MaxConnections int
	// MaxRings is how many clients may have a ring, each of which takes half a
	// megabyte and a thread; 0 for none. Others stay on the socket.
	MaxRings int
	// Budget bounds the bytes of the tensors of all requests under way, together
	// with those of other servers that share it. Nil for one of 512 MiB.
	Budget *local.Budget
	// Tracer traces a fraction of the requests. Nil for none.
	Tracer *trace.Tracer
}

// Limits that no configuration changes.
const (
	// maxOutstanding is how many requests of one connection may be under way.
	maxOutstanding = 1024
	// maxModels is how many models may be open on one connection.
	maxModels = 256
)

// patience is how long the Server waits for clients.
type patience struct {
	greeting time.Duration // from connecting to a complete hello
	frame    time.Duration // for the rest of a frame, and a second more for each 8 MiB
	write    time.Duration // for a client that reads nothing
	// While stopping: how long a connection may be quiet before it is closed, and
	// how long new requests are taken at most.
	quiet, farewell time.Duration
	// alone is how long a connection may not be read because its goroutine runs a request, at
	// the least; at most twice as long.
	alone time.Duration
}

var patient = patience{
	greeting: 10 * time.Second, frame: 10 * time.Second, write: 10 * time.Second,
	quiet: 100 * time.Millisecond, farewell: time.Second, alone: 20 * time.Millisecond,
}

// Server answers on any number of listeners. Its methods may be called by many
// goroutines at once.
type Server struct {
	engine         *engine.Engine
	log            *slog.Logger
	maxPayload     uint32
	maxConnections int
	patience       patience
	budget         *local.Budget
	rings          rings
	jobs           sync.Pool
	tracer         *trace.Tracer // nil for no traces

	mu        sync.Mutex
	stopping  bool
	yielding  bool // another process has the sockets too
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	ended     sync.WaitGroup // of connections
}

// New makes a Server that does not listen yet.
func New(o Options) (*Server, error) {
	if o.Engine == nil {
		return nil, errors.New("making the lane server: it needs an engine")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := local.SetLimits("lane server",
		local.Limit{Value: &o.MaxMessage, Builtin: 80 << 20, Max: 2<<30 - 1, Of: "message"},
	); err != nil {
		return nil, err
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 1024
	}
	if o.Budget == nil {
		o.Budget = local.NewBudget(512 << 20)
	}
	s := &Server{
		engine: o.Engine, log: o.Log, maxPayload: uint32(o.MaxMessage), maxConnections: o.MaxConnections,
		patience: patient, budget: o.Budget, jobs: sync.Pool{New: newJob}, tracer: o.Tracer,
		listeners: make(map[net.Listener]struct{}), conns: make(map[*conn]struct{}),
	}
	s.rings.init(o.MaxRings)
	return s, nil
}

// Serve answers on l, which may be of type SOCK_SEQPACKET or SOCK_STREAM and which
// the Server then owns, for those whom access admits, until Shutdown or Stop is
// called, when it returns nil, or until l fails.
func (s *Server) Serve(l *net.UnixListener, access local.Access) error {
	listener := local.NewListener(l, s.maxConnections, access, s.log)
	defer listener.Close()
	if !s.add(listener) {
		return nil
	}
	defer s.remove(listener)
	pause := minAcceptPause
	for {
		accepted, err := listener.AcceptConn()
		switch {
		case err == nil:
			pause = minAcceptPause
			s.start(accepted)
		case s.isClosing():
			return nil
		case local.OutOfFiles(err):
			// It passes, but not by asking again at once.
			time.Sleep(pause)
			pause = min(2*pause, maxAcceptPause)
		default:
			return fmt.Errorf("serving the lane on %s: %w", l.Addr(), err)
		}
	}
}

const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

func (s *Server) add(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || s.yielding {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) remove(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// isClosing tells whether the listeners were closed on purpose.
func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping || s.yielding
}

// start serves an accepted connection on a goroutine of its own.
func (s *Server) start(accepted *local.Conn) {
	c, err := newConn(s, accepted)
	if err != nil {
		s.log.Warn("a client cannot be served", "error", err)
		_ = accepted.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		_ = accepted.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.ended.Add(1)
	c.ended = func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.ended.Done()
	}
	go c.serve()
}

// Yield leaves the clients that come from now on to another process that has the same
// sockets, and returns when those that came before are greeted, so that Shutdown can
// tell them to go there too. It waits no longer than ctx.
func (s *Server) Yield(ctx context.Context) {
	s.mu.Lock()
	s.yielding = true
	for l := range s.listeners {
		_ = l.Close() // whatever it says, nothing is accepted any more
	}
	s.mu.Unlock()
	local.Await(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.listeners) > 0 {
			return false // one may just be accepting
		}
		for c := range s.conns {
			if !c.greeted.Load() {
				return false
			}
		}
		return true
	})
}

// Shutdown closes the listeners, tells clients to send nothing more, and returns
// when every request that was read is answered. When ctx ends first, the requests
// left are cut off, and an error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop((*conn).wake)
	ended := make(chan struct{})
	go func() {
		s.ended.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		s.Stop()
		<-ended
		return fmt.Errorf("stopping the lane: requests were cut off: %w", ctx.Err())
	}
}

// Stop closes everything at once, requests under way included.
func (s *Server) Stop() { s.stop((*conn).cut) }

// stop closes the listeners and does something to each connection.
func (s *Server) stop(each func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for l := range s.listeners {
		_ = l.Close() // what could be lost by that is wanted to be
	}
	for c := range s.conns {
		each(c)
	}
}

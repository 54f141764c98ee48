package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/trace"
)

// Options is what a Server is made of. Zero limits take the values named here.
type Options struct {
	// Engine has the models. The Server does not close it.
	Engine *engine.Engine
	// Log gets one line for each model that a client loads or unloads, and the
	// reasons that are not for clients. Nil for none.
	Log *slog.Logger
	// StrictTensors refuses requests whose metadata disagrees with the model
	// even when the number of bytes fits.
	StrictTensors bool
	// MaxMessage is the largest request and answer in bytes. Default 80 MiB,
	// at most 2 GiB less one byte, which is protobuf's own limit.
	MaxMessage int64
	// MaxTensor is the most bytes that one tensor may take from shared memory.
	// Default 1 GiB.
	MaxTensor int64
	// MaxConnections is how many clients may be connected to one listener; more
	// are disconnected at once. Default 1024.
	MaxConnections int
	// Budget bounds the bytes of all requests under way, together with those of
	// other servers that share it; what comes beyond is refused as busy. Nil for
	// one of 1 GiB.
	Budget *local.Budget
	// Tracer traces predictions, and models that are loaded and unloaded. Nil for none.
	Tracer *trace.Tracer
	// Capture keeps what clients capture explicitly. Nil: nothing is captured.
	Capture capture.Keeper
	// Daemon is what the control service says of the process it runs in.
	Daemon Daemon

	// patience is shortened by tests.
	patience local.Patience
	// silence is after what time without a whole frame a client is asked whether it
	// is there; shortened by tests.
	silence time.Duration
}

// Limits that no configuration changes.
const (
	// prefaceTimeout is how long a connection may take for HTTP/2's greeting, so
	// that silent ones do not use up MaxConnections.
	prefaceTimeout = 10 * time.Second
	// greetingPatience is what is left of it once the server is shutting down.
	greetingPatience = 100 * time.Millisecond
)

// Server answers agent and control calls on any number of listeners. Its
// methods may be called by many goroutines at once.
type Server struct {
	grpc           *local.GRPC
	agent          *service
	control        *Control
	log            *slog.Logger
	maxConnections int

	mu        sync.Mutex
	listeners []*listener
}

// New makes a Server that does not listen yet.
func New(o Options) (*Server, error) {
	if o.Engine == nil {
		return nil, errors.New("making the agent server: it needs an engine")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := local.SetLimits("agent server",
		local.Limit{Value: &o.MaxMessage, Builtin: 80 << 20, Max: math.MaxInt32, Of: "message"},
		local.Limit{Value: &o.MaxTensor, Builtin: 1 << 30, Max: 1 << 40, Of: "tensor"},
	); err != nil {
		return nil, err
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 1024
	}
	if o.Capture == nil {
		o.Capture = capture.Off{}
	}
	if o.Budget == nil {
		o.Budget = local.NewBudget(1 << 30)
	}
	if o.patience == (local.Patience{}) {
		o.patience = local.DefaultPatience
	}
	s := &Server{log: o.Log, maxConnections: o.MaxConnections, grpc: local.NewGRPC(local.GRPCOptions{
		MaxMessage: o.MaxMessage, Greeting: prefaceTimeout, Patience: o.patience, Silence: o.silence, Budget: o.Budget,
	})}
	s.agent = &service{
		engine: o.Engine, log: o.Log, strict: o.StrictTensors, maxTensor: uint64(o.MaxTensor), budget: o.Budget, tracer: o.Tracer,
		capture: o.Capture,
	}
	s.control = newControl(o.Engine, o.Daemon)
	s.Register(s.grpc)
	return s, nil
}

// Register adds the agent's interface and the control service to another gRPC
// server, which must be a local.GRPC.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	agentapi.RegisterAgentServer(r, s.agent)
	controlapi.RegisterControlServer(r, s.control)
}

// Serve answers on l, which the Server then owns, until Shutdown or Stop is
// called, when it returns nil, or until l fails. access says who may connect, and
// whether they may load and unload.
func (s *Server) Serve(l *net.UnixListener, access local.Access) error {
	counted := newListener(local.NewListener(l, s.maxConnections, access, s.log))
	s.mu.Lock()
	s.listeners = append(s.listeners, counted)
	s.mu.Unlock()
	err := s.grpc.Serve(counted)
	if err == nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("serving the agent interface on %s: %w", l.Addr(), err)
}

// Yield leaves the clients that come from now on to another process that has the same
// sockets, and returns when those that came before are greeted, so that Shutdown can
// tell them to go there too. It waits no longer than ctx.
func (s *Server) Yield(ctx context.Context) {
	s.mu.Lock()
	listeners := s.listeners
	s.mu.Unlock()
	for _, l := range listeners {
		l.yield(ctx)
	}
	local.Await(ctx, func() bool {
		return !slices.ContainsFunc(listeners, (*listener).ungreeted)
	})
}

// Shutdown closes the listeners, tells clients to send nothing more, and
// returns when every call under way is answered. When ctx ends first, the calls
// left are cut off, and an error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	// More than once: a connection may just be on its way through Accept.
	silent := time.NewTicker(20 * time.Millisecond)
	defer silent.Stop()
	for {
		select {
		case <-drained:
			return nil
		case <-silent.C:
			s.closeSilent(greetingPatience)
		case <-ctx.Done():
			s.closeSilent(0)
			s.grpc.Stop()
			<-drained
			return fmt.Errorf("stopping the agent interface: calls were cut off: %w", ctx.Err())
		}
	}
}

func (s *Server) closeSilent(patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.closeSilent(patience)
	}
}

// Stop closes everything at once: calls under way fail with UNAVAILABLE.
func (s *Server) Stop() { s.grpc.Stop() }

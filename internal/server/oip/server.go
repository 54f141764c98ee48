package oip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/picket-ml/picket/engine"
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
	// Version is what the server says of itself.
	Version string
	// MaxMessage is the largest request and answer in bytes. Default 80 MiB, at
	// most 2 GiB less one byte, which is protobuf's own limit.
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
	// Models gives the models that may be loaded by name alone; it may be called by
	// many goroutines at once. Nil for none.
	Models func() []Declared
	// Tracer traces predictions, and models that are loaded and unloaded. Nil for none.
	Tracer *trace.Tracer
	// Roots are folders in which a model may be loaded by the name of its folder.
	Roots []string
	// Gates are counted in the metrics; nil for none.
	Gates *local.Gates
	// Capture keeps the outcomes that callers tell. Nil: none are kept.
	Capture capture.Keeper
	// Collectors are further metrics; nil for none.
	Collectors []prometheus.Collector
	// Beside registers further gRPC services on the server; nil for none.
	Beside func(grpc.ServiceRegistrar)

	// patience is shortened by tests.
	patience patience
}

// patience is how long clients may take.
type patience struct {
	// greeting is how long a connection may take until its first request can come,
	// so that silent ones do not use up MaxConnections. Default 10 s.
	greeting time.Duration
	// Patience is for messages over gRPC, bodies over HTTP, and answers over HTTP.
	local.Patience
}

// Declared is a model that the operator has named.
type Declared struct {
	Name, Path string
	Options    engine.ModelOptions
	// Reason is why it is not loaded, or not as it is declared.
	Reason string
}

// Limits that no configuration changes.
const (
	// greetingPatience is what is left of patience.greeting once the server is
	// shutting down.
	greetingPatience = 100 * time.Millisecond
	// idleTime is how long an HTTP connection may wait for its next request.
	idleTime = 5 * time.Minute
)

// Server answers on any number of listeners. Its methods may be called by many
// goroutines at once.
type Server struct {
	engine    *engine.Engine
	log       *slog.Logger
	version   string
	started   time.Time
	declared  func() []Declared
	roots     []string
	maxTensor uint64
	limits    Options
	tracer    *trace.Tracer // nil for no traces
	regions   *regions
	budget    *local.Budget
	stopping  atomic.Bool
	yielding  atomic.Bool // another process has the sockets too

	grpc   *local.GRPC
	health *health.Server
	http   *http.Server

	mu     sync.Mutex
	fronts []*front
	closed bool
}

// New makes a Server that does not listen yet.
func New(o Options) (*Server, error) {
	if o.Engine == nil {
		return nil, errors.New("making the inference server: it needs an engine")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := local.SetLimits("inference server",
		local.Limit{Value: &o.MaxMessage, Builtin: 80 << 20, Max: math.MaxInt32, Of: "message"},
		local.Limit{Value: &o.MaxTensor, Builtin: 1 << 30, Max: 1 << 40, Of: "tensor"},
	); err != nil {
		return nil, err
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 1024
	}
	if o.Budget == nil {
		o.Budget = local.NewBudget(1 << 30)
	}
	if o.Capture == nil {
		o.Capture = capture.Off{}
	}
	if o.Models == nil {
		o.Models = func() []Declared { return nil }
	}
	if o.patience == (patience{}) {
		o.patience = patience{greeting: 10 * time.Second, Patience: local.DefaultPatience}
	}
	s := &Server{
		engine: o.Engine, log: o.Log, version: o.Version, started: time.Now(), declared: o.Models, roots: o.Roots,
		maxTensor: uint64(o.MaxTensor), limits: o, tracer: o.Tracer, regions: newRegions(), budget: o.Budget,
		grpc: newGRPC(o), health: health.NewServer(),
	}
	s.grpc.RegisterService(serviceDesc(), &service{s: s})
	healthapi.RegisterHealthServer(s.grpc, s.health)
	if o.Beside != nil {
		o.Beside(s.grpc)
	}
	s.health.SetServingStatus(serviceName, healthapi.HealthCheckResponse_SERVING)
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: o.patience.greeting,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    local.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // what clients do wrong
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s, nil
}

func newGRPC(o Options) *local.GRPC {
	return local.NewGRPC(local.GRPCOptions{MaxMessage: o.MaxMessage, Greeting: o.patience.greeting, Patience: o.patience.Patience, Budget: o.Budget},
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")}))
}

// Serve answers on l, which the Server then owns, until Shutdown or Stop is
// called, when it returns nil, or until l fails.
func (s *Server) Serve(l net.Listener, a Access) error {
	f := newFront(s, l, a)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return l.Close()
	}
	s.fronts = append(s.fronts, f)
	s.mu.Unlock()
	if err := f.serve(); err != nil {
		return fmt.Errorf("serving the Open Inference Protocol on %s: %w", l.Addr(), err)
	}
	return nil
}

// closeListeners lets nobody in any more.
func (s *Server) closeListeners() {
	s.stopping.Store(true)
	s.mu.Lock()
	s.closed = true
	fronts := s.fronts
	s.mu.Unlock()
	for _, f := range fronts {
		f.close()
	}
}

// Yield leaves the clients that come from now on to another process that has the same
// sockets, and returns when those that came before can be told to go there too without
// losing a request: over gRPC when they are greeted, over HTTP when an answer has told
// them to connect again. It waits no longer than ctx.
func (s *Server) Yield(ctx context.Context) {
	s.yielding.Store(true)
	s.mu.Lock()
	fronts := s.fronts
	s.mu.Unlock()
	for _, f := range fronts {
		_ = f.listener.Close() // whatever it says, nothing is accepted any more
	}
	local.Await(ctx, func() bool {
		return !slices.ContainsFunc(fronts, func(f *front) bool { return !f.left() })
	})
}

// Shutdown closes the listeners, says that the server is not ready, tells clients
// to send nothing more, and returns when every call under way is answered. When
// ctx ends first, the calls left are cut off, and an error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.Shutdown()
	s.closeListeners()
	var failed error
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		failed = s.http.Shutdown(ctx)
		close(drained)
	}()
	// More than once: a connection may just be on its way through Accept.
	silent := time.NewTicker(20 * time.Millisecond)
	defer silent.Stop()
	for {
		select {
		case <-drained:
			if failed != nil {
				s.Stop()
				return fmt.Errorf("stopping the Open Inference Protocol: calls were cut off: %w", failed)
			}
			s.end()
			return nil
		case <-silent.C:
			s.closeSilent(greetingPatience)
		case <-ctx.Done():
			s.Stop()
			<-drained
			return fmt.Errorf("stopping the Open Inference Protocol: calls were cut off: %w", ctx.Err())
		}
	}
}

func (s *Server) closeSilent(patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.fronts {
		f.closeSilent(patience)
	}
}

// Stop closes everything at once: calls under way fail.
func (s *Server) Stop() {
	s.closeListeners()
	s.closeSilent(0)
	s.grpc.Stop()
	_ = s.http.Close()
	s.end()
}

// end waits for what New and Serve started, and forgets the clients' memory.
func (s *Server) end() {
	s.mu.Lock()
	fronts := s.fronts
	s.mu.Unlock()
	for _, f := range fronts {
		f.wait()
	}
	s.regions.close()
}

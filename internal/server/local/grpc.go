package local

import (
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Limits of every gRPC server that no configuration changes.
const (
	// streamsPerConnection is how many calls one client may have under way.
	streamsPerConnection = 1024
	// MaxHeaderBytes bounds the metadata of a call; known clients send a few hundred bytes.
	MaxHeaderBytes = 16 << 10
	// keepaliveMinTime is how often clients may ping. grpc-go's own five minutes disconnect clients whose settings the
	// original agent accepted.
	keepaliveMinTime = time.Second
	// Silence is after what time without a whole frame a client is asked whether it is there. Clients behind a network can vanish without a word,
	// and one on this host can stop in the middle of a frame, or stop reading.
	Silence = 2 * time.Minute
	// askedFor is the part of that which a client has to answer.
	askedFor = 6
)

// GRPCOptions is what the gRPC servers differ in.
type GRPCOptions struct {
	// MaxMessage is the largest request and answer in bytes.
	MaxMessage int64
	// Greeting is how long a connection may take for HTTP/2's greeting, and Patience
	// how long what is sent after it.
	Greeting time.Duration
	Patience Patience
	// Silence is after what time without a whole frame a client is asked whether it is
	// there; 0 for the constant of that name.
	Silence time.Duration
	// Budget bounds what calls take.
	Budget *Budget
}

// GRPC is a gRPC server that bounds what its clients send (Inflow). Services are
// registered before it serves.
type GRPC struct {
	*grpc.Server
	inflow *Inflow
}

// RegisterService implements grpc.ServiceRegistrar.
func (g *GRPC) RegisterService(desc *grpc.ServiceDesc, impl any) {
	g.Server.RegisterService(g.inflow.guard(desc), impl)
}

// NewGRPC makes a gRPC server without services. more is what it needs beside what
// all have.
func NewGRPC(o GRPCOptions, more ...grpc.ServerOption) *GRPC {
	if o.Silence == 0 {
		o.Silence = Silence
	}
	inflow := newInflow(o.Budget, o.MaxMessage, o.Patience)
	return &GRPC{Server: grpc.NewServer(append(serverOptions(o, inflow), more...)...), inflow: inflow}
}

func serverOptions(o GRPCOptions, inflow *Inflow) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(creds{inflow}),
		grpc.InTapHandle(inflow.admit),
		grpc.ReadBufferSize(0), // watched has one
		grpc.MaxRecvMsgSize(int(o.MaxMessage)),
		grpc.MaxSendMsgSize(int(o.MaxMessage)),
		grpc.MaxConcurrentStreams(streamsPerConnection),
		grpc.MaxHeaderListSize(MaxHeaderBytes),
		grpc.ConnectionTimeout(o.Greeting),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.Silence, Timeout: o.Silence / askedFor}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		// Goroutines that stay have their stacks grown already, which saves some 2 µs of a small call. When all are busy gRPC
		// starts more.
		grpc.NumStreamWorkers(uint32(2 * runtime.GOMAXPROCS(0))),
		grpc.WaitForHandlers(true),
	}
}

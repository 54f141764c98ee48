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

// ServerOptions is what the gRPC servers have in common. maxMessage is the largest request and answer in bytes; greeting is how
// long a connection may take for HTTP/2's greeting, silence after what time without a whole frame a client is asked whether it is there.
func ServerOptions(maxMessage int64, greeting, silence time.Duration) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(Credentials{}),
		grpc.MaxRecvMsgSize(int(maxMessage)),
		grpc.MaxSendMsgSize(int(maxMessage)),
		grpc.MaxConcurrentStreams(streamsPerConnection),
		grpc.MaxHeaderListSize(MaxHeaderBytes),
		grpc.ConnectionTimeout(greeting),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: silence, Timeout: silence / askedFor}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		// Goroutines that stay have their stacks grown already, which saves some 2 µs of a small call. When all are busy gRPC
		// starts more.
		grpc.NumStreamWorkers(uint32(2 * runtime.GOMAXPROCS(0))),
		grpc.WaitForHandlers(true),
	}
}

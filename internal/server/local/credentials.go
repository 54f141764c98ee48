package local

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/picket-ml/picket/internal/shm"
)

// creds is a gRPC handshake that sends nothing: it asks the connection, once,
// which user is at its other end, and has it watched.
type creds struct{ inflow *Inflow }

// identified is a connection that may know its client: a *Conn, or what wraps one.
type identified interface {
	Peer() (shm.Peer, error)
}

// peerInfo is what handlers find in their context.
type peerInfo struct {
	credentials.CommonAuthInfo
	conn    net.Conn
	watched *watched
	peer    shm.Peer
	err     error // why it is not known
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "unix" }

// ServerHandshake implements credentials.TransportCredentials.
func (c creds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, conn: conn, watched: c.inflow.watch(conn), err: errUnknown}
	if c, ok := conn.(identified); ok {
		info.peer, info.err = c.Peer()
	}
	return info.watched, info, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (creds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for servers only")
}

// Info implements credentials.TransportCredentials.
func (creds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone implements credentials.TransportCredentials.
func (c creds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (creds) OverrideServerName(string) error { return nil }

var errUnknown = errors.New("the connection does not tell who made the call")

// CallerOf is the user who made the gRPC call that ctx belongs to.
func CallerOf(ctx context.Context) (shm.Peer, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(peerInfo); ok {
			return info.peer, info.err
		}
	}
	return shm.Peer{}, errUnknown
}

// ConnOf is the connection, as its listener gave it to gRPC, over which the call
// came that ctx belongs to; nil when it is not known.
func ConnOf(ctx context.Context) net.Conn {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(peerInfo); ok {
			return info.conn
		}
	}
	return nil
}

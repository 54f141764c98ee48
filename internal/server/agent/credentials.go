package agent

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/picket-ml/picket/internal/shm"
)

// peerCredentials is a handshake that sends nothing: it asks the kernel which
// user connected, once per connection.
type peerCredentials struct{}

// peerInfo is what handlers find in their context.
type peerInfo struct {
	credentials.CommonAuthInfo
	shm.Peer
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "unix" }

// ServerHandshake implements credentials.TransportCredentials.
func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*connection)
	if !ok {
		return nil, nil, fmt.Errorf("identifying a client: %T is no Unix socket", conn)
	}
	who, err := shm.PeerCred(c.UnixConn)
	if err != nil {
		return nil, nil, fmt.Errorf("identifying a client: %w", err)
	}
	return conn, peerInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, who}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for servers only")
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone implements credentials.TransportCredentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCredentials) OverrideServerName(string) error { return nil }

// callerOf is the user who made the call.
func callerOf(ctx context.Context) (shm.Peer, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(peerInfo); ok {
			return info.Peer, nil
		}
	}
	return shm.Peer{}, errors.New("the connection does not tell who made the call")
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/config"
)

// daemonFlags are for the commands that talk to the daemon. They may be written before the command too; other commands refuse them.
type daemonFlags struct {
	sockets string
	timeout time.Duration

	usual string // where sockets are that nobody has named
}

// newDaemonFlags are those of one command line, which one command parses.
func newDaemonFlags(getenv func(string) string) *daemonFlags {
	return &daemonFlags{usual: cmp.Or(getenv(config.EnvSockets), config.DefaultSockets())}
}

// add adds them to those of a command. of is what their help begins with.
func (f *daemonFlags) add(to *pflag.FlagSet, of string) {
	to.StringVar(&f.sockets, "sockets", f.usual, of+"the daemon's socket directory, `DIR`, or tcp://HOST:PORT; also $PICKET_SOCKETS")
	to.DurationVar(&f.timeout, "timeout", time.Minute, of+"how long to wait for each answer of the daemon, a `TIME`")
}

// daemon is a connection to picketd. Close ends it.
type daemon struct {
	agent   agentapi.AgentClient
	control controlapi.ControlClient
	conn    *grpc.ClientConn
	place   commandline.Place // that is connected to
	timeout time.Duration

	mu      sync.Mutex
	dialErr error         // why the last attempt to connect failed; gRPC itself keeps only its text
	last    *listenedConn // the connection that the last attempt made
}

// place is the daemon's socket of that name, or its port.
func (f *daemonFlags) place(name string) (commandline.Place, error) {
	place, err := commandline.PlaceOf(f.sockets, name)
	if err != nil {
		return commandline.Place{}, usage("%w", err)
	}
	return place, nil
}

// dial prepares a connection to the socket of the agent's protocol, which the first call makes.
func (f *daemonFlags) dial() (*daemon, error) { return f.dialTo("agent.sock") }

// dialTo prepares a connection to the socket of that name.
func (f *daemonFlags) dialTo(name string) (*daemon, error) {
	if f.timeout <= 0 {
		return nil, usage("--timeout %v leaves no time for an answer; it must be above 0", f.timeout)
	}
	place, err := f.place(name)
	if err != nil {
		return nil, err
	}
	return dialPlace(place, f.timeout)
}

// dialControl prepares a connection for loading and unloading: to the socket for that where there is one which this user may write
// to, else to the agent's, where it may be allowed too.
func (f *daemonFlags) dialControl() (*daemon, error) {
	place, err := f.place("control.sock")
	if err != nil {
		return nil, err
	}
	if f.timeout <= 0 || place.IsPort() || !mayWrite(place.Address) {
		return f.dial()
	}
	return dialPlace(place, f.timeout)
}

// dialPlace prepares a connection to where the daemon speaks gRPC.
func dialPlace(place commandline.Place, timeout time.Duration) (_ *daemon, err error) {
	d := &daemon{place: place, timeout: timeout}
	d.conn, err = grpc.NewClient("passthrough:///picketd",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(d.connect),
		// The daemon limits what it answers; the largest it can be set to is protobuf's own limit.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing to connect to %s: %w", place.Address, err)
	}
	d.agent, d.control = agentapi.NewAgentClient(d.conn), controlapi.NewControlClient(d.conn)
	return d, nil
}

func (d *daemon) connect(ctx context.Context, _ string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, d.place.Network, d.place.Address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dialErr = err
	if err != nil {
		return nil, err
	}
	d.last = &listenedConn{Conn: conn}
	return d.last, nil
}

// listenedConn knows whether the other end ever said anything: a daemon that has as many clients as it may closes a
// connection without a word.
type listenedConn struct {
	net.Conn
	heard atomic.Bool
}

func (c *listenedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

// Close ends the connection.
func (d *daemon) Close() error { return d.conn.Close() }

// call asks the daemon one question within the timeout. doing says what for: "listing the models".
func call[In, Out any](c *cobra.Command, d *daemon, doing string, ask func(context.Context, In, ...grpc.CallOption) (Out, error), in In) (Out, error) {
	ctx, cancel := context.WithTimeout(c.Context(), d.timeout)
	defer cancel()
	out, err := ask(ctx, in)
	if err != nil {
		_, loads := any(in).(*agentapi.LoadModelRequest)
		return out, d.explain(doing, loads, err)
	}
	return out, nil
}

// withDaemon makes the body of a command that talks to the daemon over its agent's socket.
func withDaemon(f *daemonFlags, body func(c *cobra.Command, d *daemon, args []string) error) func(*cobra.Command, []string) error {
	return withConnection(f.dial, body)
}

// withControl makes the body of a command that loads or unloads.
func withControl(f *daemonFlags, body func(c *cobra.Command, d *daemon, args []string) error) func(*cobra.Command, []string) error {
	return withConnection(f.dialControl, body)
}

func withConnection(dial func() (*daemon, error), body func(c *cobra.Command, d *daemon, args []string) error) func(*cobra.Command, []string) error {
	return doing(func(c *cobra.Command, args []string) error {
		d, err := dial()
		if err != nil {
			return err
		}
		defer d.Close()
		return body(c, d, args)
	})
}

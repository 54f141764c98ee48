package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/server/agent"
	"github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/server/oip"
)

// listening is a listener and the protocol that is spoken on it.
type listening struct {
	door       *door
	address    string  // a path, or an address with a port
	configured string  // the address as the configuration has it
	managed    bool    // the service manager made the socket, and removes its file
	socket     *socket // nil where there is no file of ours
	listener   shareable
	serve      func() error
}

// shareable is a listener whose descriptor can be given to another process.
type shareable interface {
	net.Listener
	syscall.Conn
}

// close removes what is left once the server has ended.
func (l *listening) close() error {
	if l.socket != nil {
		return l.socket.close()
	}
	if err := l.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // as a rule: by its server
}

// buildServers makes one server for each protocol, and says where they will listen.
func (d *daemon) buildServers(started time.Time) error {
	c := d.config.Load()
	about := agent.Daemon{
		Version: version, Started: started, HostJSON: d.hostJSON, Declared: d.declared.forControl, Reload: d.askedToReload,
	}
	for _, door := range doors {
		for _, path := range *door.paths(c) {
			about.Sockets = append(about.Sockets, agent.Socket{Protocol: door.protocol, Path: path})
		}
	}
	// A request and its answer of the largest size fit in any case.
	budget := local.NewBudget(max(int64(c.Limits.MaxInFlight), 2*int64(c.Limits.MaxMessage)))
	edge, err := agent.New(agent.Options{
		Engine: d.engine, Log: d.log, StrictTensors: c.StrictTensors,
		MaxMessage: int64(c.Limits.MaxMessage), MaxTensor: int64(c.Limits.MaxTensor), MaxConnections: c.Limits.MaxConnections,
		Budget: budget, Tracer: d.tracer, Capture: d.captures.keeper(), Daemon: about,
	})
	if err != nil {
		return err
	}
	options := oip.Options{
		Engine: d.engine, Log: d.log, Version: version, Models: d.declared.forOIP, Roots: c.ModelRoots, Gates: &d.gates,
		MaxMessage: int64(c.Limits.MaxMessage), MaxTensor: int64(c.Limits.MaxTensor), MaxConnections: c.Limits.MaxConnections,
		Budget: budget, Tracer: d.tracer, Capture: d.captures.keeper(), Collectors: d.collectors(),
	}
	if d.captures != nil {
		options.Collectors = append(options.Collectors, d.captures)
	}
	if d.outgoing != nil {
		options.Collectors = append(options.Collectors, d.outgoing)
	}
	inference, err := oip.New(options)
	if err != nil {
		return err
	}
	// The operator's socket has every interface over which models are loaded.
	options.Beside = edge.Register
	control, err := oip.New(options)
	if err != nil {
		return err
	}
	binary, err := lane.New(lane.Options{
		Engine: d.engine, Log: d.log,
		MaxMessage: int64(c.Limits.MaxMessage), MaxConnections: c.Limits.MaxConnections, MaxRings: c.Limits.MaxRings, Budget: budget,
		Tracer: d.tracer,
	})
	if err != nil {
		return err
	}
	d.agent, d.oip, d.lane, d.control = edge, inference, binary, control
	return nil
}

// listen opens every listener. What is open when it fails is closed by
// closeSockets.
func (d *daemon) listen() error {
	c := d.config.Load()
	inference := func(s *oip.Server) serveFunc {
		return func(l *net.UnixListener, a local.Access) error { return s.Serve(l, oip.Access{Access: a}) }
	}
	for _, p := range []struct {
		key     string
		control bool
		why     string // the key of the configuration that says so; empty where there is none
		serve   serveFunc
	}{
		{"agent", c.Sockets.Agent.Control, "sockets.agent.control", d.agent.Serve},
		{"oip", c.Sockets.OIP.Control, "sockets.oip.control", inference(d.oip)},
		{"lane", false, "", d.lane.Serve},
		{"lane_stream", false, "", d.lane.Serve},
		{"control", true, "", inference(d.control)},
	} {
		door := doorOf(p.key)
		socket := door.socket(c)
		access, err := accessTo(socket)
		if err != nil {
			return fmt.Errorf("listening for the %s protocol: %w", door.protocol, err)
		}
		access.Control, access.ControlKey = p.control, p.why
		access.MaxPerUser, access.Gates = c.Limits.MaxConnectionsPerUser, &d.gates
		if err := d.listenUnix(door, socket, access, p.serve); err != nil {
			return err
		}
	}
	return d.listenTCP()
}

// serveFunc answers on a socket.
type serveFunc func(*net.UnixListener, local.Access) error

// accessTo is who may connect to a socket. Names of users and groups are looked up
// once: whoever changes them restarts the daemon.
func accessTo(c *config.Socket) (a local.Access, err error) {
	for _, name := range c.AllowUsers {
		uid, err := lookUp("allow_users", name, func() (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		if err != nil {
			return a, err
		}
		a.Users = append(a.Users, uid)
	}
	for _, name := range c.AllowGroups {
		gid, err := lookUp("allow_groups", name, func() (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		if err != nil {
			return a, err
		}
		a.Groups = append(a.Groups, gid)
	}
	return a, nil
}

// lookUp is the id of a user or group by number or, if it is none, by what find
// finds.
func lookUp(key, name string, find func() (string, error)) (uint32, error) {
	id, err := strconv.ParseUint(name, 10, 32)
	if err == nil {
		return uint32(id), nil
	}
	found, err := find()
	if err == nil {
		id, err = strconv.ParseUint(found, 10, 32)
	}
	if err != nil {
		return 0, usageError{fmt.Errorf("looking up %s of %s: %w; name one that this host knows, or its number", name, key, err)}
	}
	return uint32(id), nil
}

// listenUnix opens the sockets of one protocol, or takes those that are open already.
func (d *daemon) listenUnix(door *door, c *config.Socket, a local.Access, serve serveFunc) error {
	for _, path := range c.Paths {
		l, err := d.openUnix(door, path, c)
		if err != nil {
			return fmt.Errorf("listening for the %s protocol: %w", door.protocol, err)
		}
		l.door, l.address, l.configured = door, path, path
		l.serve = func() error { return serve(l.listener.(*net.UnixListener), a) }
		d.listening = append(d.listening, l)
	}
	return nil
}

func (d *daemon) openUnix(door *door, path string, c *config.Socket) (*listening, error) {
	i := d.take(door.key, path)
	switch {
	case i == nil:
		s, err := listen(door.network, path, c.Mode, c.Group, d.config.Load().Sockets.Force)
		if err != nil {
			return nil, err
		}
		return &listening{socket: s, listener: s.listener}, nil
	case i.managed:
		l, err := i.listener()
		if err != nil {
			return nil, err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		return &listening{managed: true, listener: l.(*net.UnixListener)}, nil
	default:
		s, err := adopt(i)
		if err != nil {
			return nil, err
		}
		return &listening{socket: s, listener: s.listener}, nil
	}
}

// listenTCP opens the ports of the Open Inference Protocol, and of the agent's where that is served there too.
func (d *daemon) listenTCP() error {
	c := d.config.Load().TCP
	if len(c.Listen) == 0 {
		return nil
	}
	access := oip.Access{
		Access:       local.Access{Control: c.Control, ControlKey: "tcp.control", Gates: &d.gates},
		SharedMemory: c.SharedMemory,
	}
	if c.Certificate != "" {
		secured, err := newTLS(d.config.Load(), d.log)
		if err != nil {
			return usageError{err}
		}
		// Where a reload may name other files.
		d.secured.Store(secured)
		access.TLS = secured.Clone()
		access.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return d.secured.Load().GetConfigForClient(hello)
		}
	} else {
		d.log.Warn("predictions are served over TCP without encryption: whoever reaches the port can predict", "listen", c.Listen, "agent", c.Agent, "control", c.Control)
	}
	answers := d.oip
	if c.Agent {
		answers = d.control // which has both; what clients may do is the listener's to say
	}
	for _, address := range c.Listen {
		l := &listening{door: doorOf("tcp"), configured: address}
		var opened net.Listener
		var err error
		if i := d.take("tcp", address); i != nil {
			l.managed = i.managed
			opened, err = i.listener()
		} else {
			opened, err = net.Listen("tcp", address)
		}
		if err != nil {
			return fmt.Errorf("listening for the oip protocol: %w", err)
		}
		l.listener, l.address = opened.(*net.TCPListener), opened.Addr().String()
		l.serve = func() error { return answers.Serve(l.listener, access) }
		d.listening = append(d.listening, l)
	}
	return nil
}

func newTLS(c *config.Config, log *slog.Logger) (*tls.Config, error) {
	return oip.NewTLS(oip.TLSFiles{Certificate: c.TCP.Certificate, Key: c.TCP.Key, ClientCA: c.TCP.ClientCA}, log)
}

// ownSockets makes the sockets that were another process's this one's, now that that
// process leaves them, and closes those that the configuration does not name any more.
func (d *daemon) ownSockets() {
	for _, l := range d.listening {
		if l.socket == nil || !l.socket.shared {
			continue
		}
		c := l.door.socket(d.config.Load())
		if err := l.socket.own(c.Mode, c.Group); err != nil {
			d.log.Error("taking over a socket: who may connect stays as it was", "error", err)
		}
	}
	for _, i := range d.inherited {
		d.log.Info("closing a socket that the configuration does not name any more", "socket", i.address)
		if i.lock == nil {
			i.close()
			continue
		}
		s, err := adopt(i)
		if err == nil {
			s.shared = false
			err = s.close()
		}
		if err != nil {
			d.log.Warn("removing a socket", "socket", i.address, "error", err)
		}
	}
	d.inherited = nil
}

// addresses are where clients find the daemon.
func (d *daemon) addresses() []string {
	var all []string
	for _, l := range d.listening {
		all = append(all, l.address)
	}
	return all
}

// yielding is how long clients are waited for that have connected before the sockets
// were left to another process, and are not ready to be told so: that they greet, or
// that their next request over HTTP/1 comes.
const yielding = 5 * time.Second

// shutDown ends all servers, each after its calls under way. Where the sockets were left
// to another process, no client is turned away by that.
func (d *daemon) shutDown(ctx context.Context, left bool) error {
	servers := d.servers()
	failed := make(chan error, len(servers))
	for _, s := range servers {
		go func() {
			if left {
				grace := d.config.Load().Shutdown.Grace
				short, cancel := context.WithTimeout(ctx, min(yielding, grace/2))
				s.Yield(short)
				cancel()
			}
			failed <- s.Shutdown(ctx)
		}()
	}
	var all []error
	for range servers {
		all = append(all, <-failed)
	}
	return errors.Join(all...)
}

// stopServers ends all servers at once.
func (d *daemon) stopServers() {
	for _, s := range d.servers() {
		s.Stop()
	}
}

// servers are the protocols.
func (d *daemon) servers() []server { return []server{d.agent, d.oip, d.lane, d.control} }

// closeSockets removes what the listeners left.
func (d *daemon) closeSockets() {
	for _, l := range slices.Backward(d.listening) {
		if err := l.close(); err != nil {
			d.log.Warn("removing a socket", "socket", l.address, "error", err)
		}
	}
	for _, i := range d.inherited {
		i.close()
	}
}

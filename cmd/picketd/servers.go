package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/server/agent"
	"github.com/picket-ml/picket/internal/server/lane"
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
	edge, err := agent.New(agent.Options{
		Engine: d.engine, Log: d.log, StrictTensors: c.StrictTensors,
		MaxMessage: int64(c.Limits.MaxMessage), MaxTensor: int64(c.Limits.MaxTensor), MaxConnections: c.Limits.MaxConnections,
		Tracer: d.tracer, Daemon: about,
	})
	if err != nil {
		return err
	}
	inference, err := oip.New(oip.Options{
		Engine: d.engine, Log: d.log, Version: version, Models: d.declared.forOIP, Roots: c.ModelRoots,
		MaxMessage: int64(c.Limits.MaxMessage), MaxTensor: int64(c.Limits.MaxTensor), MaxConnections: c.Limits.MaxConnections,
		MaxInFlight: int64(c.Limits.MaxInFlight), Tracer: d.tracer,
	})
	if err != nil {
		return err
	}
	binary, err := lane.New(lane.Options{
		Engine: d.engine, Log: d.log,
		MaxMessage: int64(c.Limits.MaxMessage), MaxConnections: c.Limits.MaxConnections, MaxRings: c.Limits.MaxRings, MaxInFlight: int64(c.Limits.MaxInFlight),
		Tracer: d.tracer,
	})
	if err != nil {
		return err
	}
	d.agent, d.oip, d.lane = edge, inference, binary
	return nil
}

// listen opens every listener. What is open when it fails is closed by
// closeSockets.
func (d *daemon) listen() error {
	c := d.config.Load()
	for _, p := range []struct {
		key    string
		socket config.Socket
		serve  func(*net.UnixListener) error
	}{
		{"agent", c.Sockets.Agent, d.agent.Serve},
		{"oip", c.Sockets.OIP, func(l *net.UnixListener) error { return d.oip.Serve(l, oip.Access{}) }},
		{"lane", c.Sockets.Lane, d.lane.Serve},
		{"lane_stream", c.Sockets.LaneStream, d.lane.Serve},
	} {
		if err := d.listenUnix(doorOf(p.key), p.socket, p.serve); err != nil {
			return err
		}
	}
	return d.listenTCP()
}

// listenUnix opens the sockets of one protocol, or takes those that are open already.
func (d *daemon) listenUnix(door *door, c config.Socket, serve func(*net.UnixListener) error) error {
	for _, path := range c.Paths {
		l, err := d.openUnix(door, path, c)
		if err != nil {
			return fmt.Errorf("listening for the %s protocol: %w", door.protocol, err)
		}
		l.door, l.address, l.configured = door, path, path
		l.serve = func() error { return serve(l.listener.(*net.UnixListener)) }
		d.open = append(d.open, l)
	}
	return nil
}

func (d *daemon) openUnix(door *door, path string, c config.Socket) (*listening, error) {
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

// listenTCP opens the ports of the Open Inference Protocol.
func (d *daemon) listenTCP() error {
	c := d.config.Load().TCP
	if len(c.Listen) == 0 {
		return nil
	}
	access := oip.Access{Control: c.Control, SharedMemory: c.SharedMemory}
	if c.Certificate != "" {
		secured, err := newTLS(d.config.Load(), d.log)
		if err != nil {
			return err
		}
		// Where a reload may name other files.
		d.secured.Store(secured)
		access.TLS = secured.Clone()
		access.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return d.secured.Load().GetConfigForClient(hello)
		}
	} else {
		d.log.Warn("the Open Inference Protocol is served over TCP without encryption: whoever reaches the port can predict", "listen", c.Listen, "control", c.Control)
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
		l.serve = func() error { return d.oip.Serve(l.listener, access) }
		d.open = append(d.open, l)
	}
	return nil
}

func newTLS(c *config.Config, log *slog.Logger) (*tls.Config, error) {
	return oip.NewTLS(oip.TLSFiles{Certificate: c.TCP.Certificate, Key: c.TCP.Key, ClientCA: c.TCP.ClientCA}, log)
}

// ownSockets makes the sockets that were another process's this one's, now that that
// process leaves them, and closes those that the configuration does not name any more.
func (d *daemon) ownSockets() {
	c := d.config.Load().Sockets
	settings := map[string]config.Socket{"agent": c.Agent, "oip": c.OIP, "lane": c.Lane, "lane_stream": c.LaneStream}
	for _, l := range d.open {
		if l.socket == nil || !l.socket.shared {
			continue
		}
		if err := l.socket.own(settings[l.door.key].Mode, settings[l.door.key].Group); err != nil {
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
	for _, l := range d.open {
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
func (d *daemon) servers() []server { return []server{d.agent, d.oip, d.lane} }

// closeSockets removes what the listeners left.
func (d *daemon) closeSockets() {
	for _, l := range slices.Backward(d.open) {
		if err := l.close(); err != nil {
			d.log.Warn("removing a socket", "socket", l.address, "error", err)
		}
	}
	for _, i := range d.inherited {
		i.close()
	}
}

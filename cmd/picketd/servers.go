package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"
	"time"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/server/agent"
	"github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/server/oip"
)

// listening is a listener and the protocol that is spoken on it.
type listening struct {
	protocol string
	address  string // a path, or an address with a port
	serve    func() error
	close    func() error // removes what is left once the server has ended
}

// buildServers makes one server for each protocol, and says where they will listen.
func (d *daemon) buildServers(started time.Time) error {
	c := d.config
	about := agent.Daemon{Version: version, Started: started, HostJSON: d.hostJSON}
	for _, p := range []struct {
		name  string
		paths []string
	}{
		{"agent", c.Sockets.Agent.Paths}, {"oip", c.Sockets.OIP.Paths}, {"oip", c.TCP.Listen},
		{"lane", c.Sockets.Lane.Paths}, {"lane", c.Sockets.LaneStream.Paths}, {"control", c.Sockets.Control.Paths},
	} {
		for _, path := range p.paths {
			about.Sockets = append(about.Sockets, agent.Socket{Protocol: p.name, Path: path})
		}
	}
	// A request and its answer of the largest size fit in any case.
	budget := local.NewBudget(max(int64(c.Limits.MaxInFlight), 2*int64(c.Limits.MaxMessage)))
	edge, err := agent.New(agent.Options{
		Engine: d.engine, Log: d.log, StrictTensors: c.StrictTensors,
		MaxMessage: int64(c.Limits.MaxMessage), MaxTensor: int64(c.Limits.MaxTensor), MaxConnections: c.Limits.MaxConnections,
		Budget: budget, Tracer: d.tracer, Daemon: about,
	})
	if err != nil {
		return err
	}
	var declared []oip.Declared
	for _, m := range c.Models {
		declared = append(declared, oip.Declared{Name: m.Name, Path: m.Path, Options: modelOptions(m.Run)})
	}
	options := oip.Options{
		Engine: d.engine, Log: d.log, Version: version, Models: declared, Roots: c.ModelRoots, Gates: &d.gates,
		MaxMessage: int64(c.Limits.MaxMessage), MaxTensor: int64(c.Limits.MaxTensor), MaxConnections: c.Limits.MaxConnections,
		Budget: budget, Tracer: d.tracer,
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
	c := d.config.Sockets
	inference := func(s *oip.Server) serveFunc {
		return func(l *net.UnixListener, a local.Access) error { return s.Serve(l, oip.Access{Access: a}) }
	}
	for _, p := range []struct {
		name, network string
		socket        config.Socket
		control       bool
		key           string // of the configuration, for control; empty where there is none
		serve         serveFunc
	}{
		{"agent", "unix", c.Agent.Socket, c.Agent.Control, "sockets.agent.control", d.agent.Serve},
		{"oip", "unix", c.OIP.Socket, c.OIP.Control, "sockets.oip.control", inference(d.oip)},
		{"lane", "unixpacket", c.Lane, false, "", d.lane.Serve},
		{"lane", "unix", c.LaneStream, false, "", d.lane.Serve},
		{"control", "unix", c.Control, true, "", inference(d.control)},
	} {
		access, err := accessTo(p.socket)
		if err != nil {
			return fmt.Errorf("listening for the %s protocol: %w", p.name, err)
		}
		access.Control, access.ControlKey = p.control, p.key
		access.MaxPerUser, access.Gates = d.config.Limits.MaxConnectionsPerUser, &d.gates
		if err := d.listenUnix(p.name, p.network, p.socket, access, p.serve); err != nil {
			return err
		}
	}
	return d.listenTCP()
}

// serveFunc answers on a socket.
type serveFunc func(*net.UnixListener, local.Access) error

// accessTo is who may connect to a socket. Names of users and groups are looked up
// once: whoever changes them restarts the daemon.
func accessTo(c config.Socket) (a local.Access, err error) {
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
		return 0, fmt.Errorf("looking up %s of %s: %w; name one that this host knows, or its number", name, key, err)
	}
	return uint32(id), nil
}

// listenUnix opens the sockets of one protocol.
func (d *daemon) listenUnix(protocol, network string, c config.Socket, a local.Access, serve serveFunc) error {
	for _, path := range c.Paths {
		s, err := listen(network, path, c.Mode, c.Group, d.config.Sockets.Force)
		if err != nil {
			return fmt.Errorf("listening for the %s protocol: %w", protocol, err)
		}
		d.open = append(d.open, listening{protocol, path, func() error { return serve(s.listener, a) }, s.close})
	}
	return nil
}

// listenTCP opens the ports of the Open Inference Protocol.
func (d *daemon) listenTCP() error {
	c := d.config.TCP
	if len(c.Listen) == 0 {
		return nil
	}
	access := oip.Access{
		Access:       local.Access{Control: c.Control, ControlKey: "tcp.control", Gates: &d.gates},
		SharedMemory: c.SharedMemory,
	}
	if c.Certificate != "" {
		var err error
		if access.TLS, err = d.tls(); err != nil {
			return err
		}
	} else {
		d.log.Warn("the Open Inference Protocol is served over TCP without encryption: whoever reaches the port can predict", "listen", c.Listen, "control", c.Control)
	}
	for _, address := range c.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listening for the oip protocol: %w", err)
		}
		d.open = append(d.open, listening{"oip", l.Addr().String(), func() error { return d.oip.Serve(l, access) }, func() error {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil // as a rule: by its server
		}})
	}
	return nil
}

func (d *daemon) tls() (*tls.Config, error) {
	c := d.config.TCP
	return oip.NewTLS(oip.TLSFiles{Certificate: c.Certificate, Key: c.Key, ClientCA: c.ClientCA}, d.log)
}

// addresses are where clients find the daemon.
func (d *daemon) addresses() []string {
	var all []string
	for _, l := range d.open {
		all = append(all, l.address)
	}
	return all
}

// shutDown ends all servers, each after its calls under way.
func (d *daemon) shutDown(ctx context.Context) error {
	servers := d.servers()
	failed := make(chan error, len(servers))
	for _, s := range servers {
		go func() { failed <- s.Shutdown(ctx) }()
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
	for _, l := range slices.Backward(d.open) {
		if err := l.close(); err != nil {
			d.log.Warn("removing a socket", "socket", l.address, "error", err)
		}
	}
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/server/agent"
	"github.com/picket-ml/picket/internal/server/lane"
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
	}{{"agent", c.Sockets.Agent.Paths}, {"oip", c.Sockets.OIP.Paths}, {"oip", c.TCP.Listen}, {"lane", c.Sockets.Lane.Paths}, {"lane", c.Sockets.LaneStream.Paths}} {
		for _, path := range p.paths {
			about.Sockets = append(about.Sockets, agent.Socket{Protocol: p.name, Path: path})
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
	var declared []oip.Declared
	for _, m := range c.Models {
		declared = append(declared, oip.Declared{Name: m.Name, Path: m.Path, Options: modelOptions(m.Run)})
	}
	inference, err := oip.New(oip.Options{
		Engine: d.engine, Log: d.log, Version: version, Models: declared, Roots: c.ModelRoots,
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
	c := d.config
	for _, p := range []struct {
		name, network string
		socket        config.Socket
		serve         func(*net.UnixListener) error
	}{
		{"agent", "unix", c.Sockets.Agent, d.agent.Serve},
		{"oip", "unix", c.Sockets.OIP, func(l *net.UnixListener) error { return d.oip.Serve(l, oip.Access{}) }},
		{"lane", "unixpacket", c.Sockets.Lane, d.lane.Serve},
		{"lane", "unix", c.Sockets.LaneStream, d.lane.Serve},
	} {
		if err := d.listenUnix(p.name, p.network, p.socket, p.serve); err != nil {
			return err
		}
	}
	return d.listenTCP()
}

// listenUnix opens the sockets of one protocol.
func (d *daemon) listenUnix(protocol, network string, c config.Socket, serve func(*net.UnixListener) error) error {
	for _, path := range c.Paths {
		s, err := listen(network, path, c.Mode, c.Group, d.config.Sockets.Force)
		if err != nil {
			return fmt.Errorf("listening for the %s protocol: %w", protocol, err)
		}
		d.open = append(d.open, listening{protocol, path, func() error { return serve(s.listener) }, s.close})
	}
	return nil
}

// listenTCP opens the ports of the Open Inference Protocol.
func (d *daemon) listenTCP() error {
	c := d.config.TCP
	if len(c.Listen) == 0 {
		return nil
	}
	access := oip.Access{Control: c.Control, SharedMemory: c.SharedMemory}
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
func (d *daemon) servers() []server { return []server{d.agent, d.oip, d.lane} }

// closeSockets removes what the listeners left.
func (d *daemon) closeSockets() {
	for _, l := range slices.Backward(d.open) {
		if err := l.close(); err != nil {
			d.log.Warn("removing a socket", "socket", l.address, "error", err)
		}
	}
}

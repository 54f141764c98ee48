package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/picket-ml/picket/internal/config"
)

// door is one kind of socket that clients come in by. Its key is what the
// configuration and FileDescriptorName= of a service manager call it.
type door struct {
	key      string
	protocol string // as clients and logs know it
	network  string
	// socket is its part of a configuration; nil for TCP, which is none of a file.
	socket func(*config.Config) *config.Socket
}

var doors = []door{
	{"agent", "agent", "unix", func(c *config.Config) *config.Socket { return &c.Sockets.Agent.Socket }},
	{"oip", "oip", "unix", func(c *config.Config) *config.Socket { return &c.Sockets.OIP.Socket }},
	{"lane", "lane", "unixpacket", func(c *config.Config) *config.Socket { return &c.Sockets.Lane }},
	{"lane_stream", "lane", "unix", func(c *config.Config) *config.Socket { return &c.Sockets.LaneStream }},
	{"control", "control", "unix", func(c *config.Config) *config.Socket { return &c.Sockets.Control }},
	{"tcp", "oip", "tcp", nil},
}

// paths are where a configuration has its sockets.
func (d *door) paths(c *config.Config) *[]string {
	if d.socket == nil {
		return &c.TCP.Listen
	}
	return &d.socket(c).Paths
}

// doorOf is the door of that key; nil if there is none.
func doorOf(key string) *door {
	if i := slices.IndexFunc(doors, func(d door) bool { return d.key == key }); i >= 0 {
		return &doors[i]
	}
	return nil
}

// inherited is a listening socket that the process was born with.
type inherited struct {
	door *door
	// address is a path, or an address with a port as the configuration has it.
	address string
	file    *os.File
	// managed says that the service manager made the socket, and cares for its file.
	managed bool
	// lock and made are of a socket file that another process of the daemon has made.
	lock *os.File
	made fileID
}

// close closes the descriptors and leaves the files.
func (i *inherited) close() {
	_ = i.file.Close()
	if i.lock != nil {
		_ = i.lock.Close()
	}
}

// activated are the sockets that the service manager has passed, by the protocol of
// LISTEN_FDS. The environment is cleared of it.
func activated() (all []*inherited, err error) {
	files := activation.Files(true)
	for _, f := range files {
		i, err := activatedAs(f)
		if err != nil {
			return nil, fmt.Errorf("taking the sockets that the service manager has passed: %w", err)
		}
		all = append(all, i)
	}
	return all, nil
}

func activatedAs(f *os.File) (*inherited, error) {
	var keys []string
	for _, d := range doors {
		keys = append(keys, d.key)
	}
	d := doorOf(f.Name())
	if d == nil {
		return nil, fmt.Errorf("one is named %q: name it one of %s, with FileDescriptorName= in its .socket unit", f.Name(), strings.Join(keys, ", "))
	}
	if err := d.fits(f); err != nil {
		return nil, fmt.Errorf("the one named %s %w", d.key, err)
	}
	address, err := addressOf(f)
	if err != nil {
		return nil, fmt.Errorf("the one named %s has no address: %w", d.key, err)
	}
	return &inherited{door: d, address: address, file: f, managed: true}, nil
}

// claim makes c say what the service manager has decided: where it has passed sockets
// for a door, those and no others are served.
func claim(c *config.Config, all []*inherited) {
	claimed := map[*door]bool{}
	for _, i := range all {
		if !i.managed {
			continue
		}
		paths := i.door.paths(c)
		if !claimed[i.door] {
			claimed[i.door], *paths = true, nil
		}
		*paths = append(*paths, i.address)
	}
}

// take is the inherited socket at that address, which the caller then owns; nil if
// there is none.
func (d *daemon) take(key, address string) *inherited {
	at := slices.IndexFunc(d.inherited, func(i *inherited) bool { return i.door.key == key && i.address == address })
	if at < 0 {
		return nil
	}
	taken := d.inherited[at]
	d.inherited = slices.Delete(d.inherited, at, at+1)
	return taken
}

// listener makes a listener of the inherited descriptor.
func (i *inherited) listener() (net.Listener, error) {
	l, err := net.FileListener(i.file)
	_ = i.file.Close() // the listener has its own
	if err != nil {
		return nil, fmt.Errorf("listening on the inherited socket %s: %w", i.address, err)
	}
	return l, nil
}

package commandline

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// Place is where a daemon is asked: the file of a socket, or a port. Both are for net.Dial.
type Place struct{ Network, Address string }

// PlaceOf is the socket of that name in the directory that sockets names, or the port where it is tcp://HOST:PORT: that has what the
// sockets have, if the daemon's configuration says so.
func PlaceOf(sockets, name string) (Place, error) {
	if address, port := strings.CutPrefix(sockets, "tcp://"); port {
		if host, number, err := net.SplitHostPort(address); err != nil || host == "" || number == "" {
			return Place{}, fmt.Errorf("--sockets: %s names no port, as tcp://127.0.0.1:8080 does", sockets)
		}
		return Place{"tcp", address}, nil
	}
	if scheme, _, url := strings.Cut(sockets, "://"); url {
		return Place{}, fmt.Errorf("--sockets: %s is neither a directory nor a port: %s:// is not known, tcp://HOST:PORT is", sockets, scheme)
	}
	dir, err := filepath.Abs(sockets)
	if err != nil {
		return Place{}, fmt.Errorf("finding the socket directory %s: %w", sockets, err)
	}
	return Place{"unix", filepath.Join(dir, name)}, nil
}

// IsPort tells whether it is one.
func (p Place) IsPort() bool { return p.Network == "tcp" }

// Beside is the socket of another name in the same directory. A port is the same for all.
func (p Place) Beside(name string) Place {
	if p.IsPort() {
		return p
	}
	return Place{p.Network, filepath.Join(filepath.Dir(p.Address), name)}
}

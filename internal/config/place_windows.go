package config

import (
	"cmp"
	"os"
	"path/filepath"
)

// Home is the folder of what the daemon keeps on this machine.
func Home() string {
	return filepath.Join(cmp.Or(os.Getenv("ProgramData"), `C:\ProgramData`), "Picket")
}

// DefaultSockets is the directory of the daemon's sockets where nobody says otherwise.
func DefaultSockets() string { return filepath.Join(Home(), "run") }

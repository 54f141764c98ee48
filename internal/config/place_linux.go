package config

// DefaultSockets is the directory of the daemon's sockets where nobody says otherwise.
func DefaultSockets() string { return "/run/picket" }

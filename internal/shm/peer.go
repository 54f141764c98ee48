package shm

// Peer is the process at the other end of a Unix socket as the kernel recorded
// it at connect time, in the terms of the daemon's own namespaces.
type Peer struct {
	UID uint32
	GID uint32
	PID int32
}

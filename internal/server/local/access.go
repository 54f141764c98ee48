package local

import (
	"context"
	"fmt"
	"slices"

	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/shm"
)

// Access is who may connect to a listener, and what clients may do over it. The zero value lets everybody in whom the socket's file
// lets, and nobody load or unload.
type Access struct {
	// Users and Groups are whose processes may connect to a Unix socket, by the ids that the kernel gives; both empty for everybody.
	// A process is in a group by its own group or by one of its supplementary ones. Nobody is let in who is not listed: not root,
	// whose id processes in containers have as well, and not the daemon's own user.
	Users, Groups []uint32
	// MaxPerUser is how many connections each user may have at a time to a Unix socket; 0 for as many as there may be.
	MaxPerUser int
	// Control allows loading and unloading models.
	Control bool
	// ControlKey is the key of the configuration that Control is, for clients that are told what would have to change.
	ControlKey string
	// Gates gets the listener's gate, for whoever counts; nil where nobody does.
	Gates *Gates
}

// admits tells whether the process at the other end may connect. groups asks for its groups, where they matter.
func (a *Access) admits(who shm.Peer, groups func() ([]uint32, error)) (bool, error) {
	if len(a.Users) == 0 && len(a.Groups) == 0 {
		return true, nil
	}
	if slices.Contains(a.Users, who.UID) || slices.Contains(a.Groups, who.GID) {
		return true, nil
	}
	if len(a.Groups) == 0 {
		return false, nil
	}
	has, err := groups()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(has, func(gid uint32) bool { return slices.Contains(a.Groups, gid) }), nil
}

// CheckControl fails with failure.ErrDenied where models may not be loaded and unloaded.
func (a *Access) CheckControl() error {
	switch {
	case a.Control:
		return nil
	case a.ControlKey == "":
		return fmt.Errorf("%w: models cannot be loaded or unloaded over this connection", failure.ErrDenied)
	}
	return fmt.Errorf("%w: models cannot be loaded or unloaded over this connection: use control.sock, or have the operator set %s to true", failure.ErrDenied, a.ControlKey)
}

// CheckControl is Access.CheckControl for the connection that a gRPC call came over.
func CheckControl(ctx context.Context) error {
	if c, ok := ConnOf(ctx).(interface{ Access() *Access }); ok {
		return c.Access().CheckControl()
	}
	return new(Access).CheckControl()
}

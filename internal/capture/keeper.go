package capture

import (
	"context"
	"errors"
)

// Keeper makes records durable for servers. Its methods may be called by many
// goroutines at once.
type Keeper interface {
	// Keep returns when all entries are durable. It fails, with none kept as far as it
	// knows, with ErrOff, and with the engine's ErrBusy where there is no room, ErrExists
	// where an explicit capture has an id that is known, and ErrClosed where the spool
	// cannot be written now.
	Keep(ctx context.Context, entries ...*Entry) error
	// Status tells what became of the explicit capture with that id. It fails with
	// ErrOff and the engine's ErrClosed.
	Status(ctx context.Context, id string) (Status, error)
}

// ErrOff says that nothing is captured here.
var ErrOff = errors.New("capture is off: set capture.enabled in the daemon's configuration; with an Edge Manager file, the daemon's log says what else it needs")

// Status is what became of an explicit capture.
type Status uint8

// The states. An id that is not known any more is as one that never was.
const (
	Unknown Status = iota
	Waiting        // on disk
	Left           // uploaded, or withheld by the policy
	Dead           // dropped
)

// Off is a Keeper that keeps nothing.
type Off struct{}

// Keep implements Keeper.
func (Off) Keep(context.Context, ...*Entry) error { return ErrOff }

// Status implements Keeper.
func (Off) Status(context.Context, string) (Status, error) { return Unknown, ErrOff }

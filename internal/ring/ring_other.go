//go:build !linux

package ring

import (
	"errors"
	"time"
)

// Capacity is how many bytes may be under way in each direction.
const Capacity = 256 << 10

// ErrCorrupt is for positions that cannot be.
var ErrCorrupt = errors.New("the ring's positions make no sense")

var errNone = errors.New("there are no rings on this system: they need Linux's memfd and futex")

// Ring does not exist on this system.
type Ring struct {
	In  Receiver
	Out Sender
}

// Receiver is the direction that this side reads.
type Receiver struct{}

// Sender is the direction that this side writes.
type Sender struct{}

// New fails.
func New(*Spins) (*Ring, int, error) { return nil, -1, errNone }

// Map fails.
func Map(int, *Spins) (*Ring, error) { return nil, errNone }

// Close does nothing.
func (*Ring) Close() {}

// SetReadDeadline does nothing.
func (*Ring) SetReadDeadline(time.Time) {}

// Unmap does nothing.
func (*Ring) Unmap() error { return nil }

// Wait fails.
func (*Receiver) Wait() error { return errNone }

// WaitForRest fails.
func (*Receiver) WaitForRest() error { return errNone }

// Arrived is true: there will be nothing.
func (*Receiver) Arrived() bool { return true }

// Take fails.
func (*Receiver) Take([]byte) (int, error) { return 0, errNone }

// Put fails.
func (*Sender) Put([]byte) (int, error) { return 0, errNone }

// WaitForRoom fails.
func (*Sender) WaitForRoom(time.Duration) error { return errNone }

// AwaitInput does not wait.
func AwaitInput(uintptr, *Spins, time.Duration) bool { return false }

// ReceiveUnseen fails.
func ReceiveUnseen(uintptr, *Spins, []byte) (int, error) { return 0, errNone }

func yield() {}

//go:build !cgo || !linux

package cuda

import (
	"fmt"
	"time"
	"unsafe"
)

func unavailable() error {
	return fmt.Errorf("%w: this program was built without cgo or for another system than Linux; use a Linux build made with CGO_ENABLED=1", ErrAbsent)
}

// Driver cannot exist in this build, and neither can what comes from it.
type (
	Driver   struct{}
	Context  struct{}
	Stream   struct{}
	Event    struct{}
	Module   struct{}
	Function struct{}
)

// Open fails and says why.
func Open(string) (*Driver, error) { return nil, unavailable() }

// Drivers is 0.
func Drivers() int { return 0 }

// Live is 0.
func Live() int64 { return 0 }

// The rest is never called, and is there for what is built on it.

func (*Driver) Version() int                                         { return 0 }
func (*Driver) Devices() ([]Device, error)                           { return nil, unavailable() }
func (*Driver) Retain(Device, Wait) (*Context, error)                { return nil, unavailable() }
func (*Context) Device() Device                                      { return Device{} }
func (*Context) Memory() (uint64, uint64, error)                     { return 0, 0, unavailable() }
func (*Context) Release() error                                      { return nil }
func (*Context) Alloc(int) (Ptr, error)                              { return 0, unavailable() }
func (*Context) Free(Ptr) error                                      { return nil }
func (*Context) AllocHost(int) ([]byte, error)                       { return nil, unavailable() }
func (*Context) FreeHost([]byte) error                               { return nil }
func (*Context) NewStream() (*Stream, error)                         { return nil, unavailable() }
func (*Context) NewEvent(bool) (*Event, error)                       { return nil, unavailable() }
func (*Context) Load([]byte) (*Module, error)                        { return nil, unavailable() }
func (*Module) Function(string) (Function, error)                    { return Function{}, unavailable() }
func (*Module) Close() error                                         { return nil }
func (*Module) AllowShared(Function, int) error                      { return unavailable() }
func (*Stream) CopyIn(Ptr, unsafe.Pointer, int) error                { return unavailable() }
func (*Stream) CopyOut(unsafe.Pointer, Ptr, int) error               { return unavailable() }
func (*Stream) Launch(Function, int, int, int, unsafe.Pointer) error { return unavailable() }
func (*Stream) Record(*Event) error                                  { return unavailable() }
func (*Stream) WaitFor(*Event) error                                 { return unavailable() }
func (*Stream) Synchronize() error                                   { return unavailable() }
func (*Stream) Close() error                                         { return nil }
func (*Event) Synchronize() error                                    { return unavailable() }
func (*Event) Since(*Event) (time.Duration, error)                   { return 0, unavailable() }
func (*Event) Close() error                                          { return nil }

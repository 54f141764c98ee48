//go:build !cgo || !linux

package cdlr

import (
	"fmt"
	"unsafe"
)

// unavailable is the answer of everything in this build.
func unavailable() error {
	return fmt.Errorf("%w: this program was built without cgo or for another system than Linux; use a Linux build made with CGO_ENABLED=1", ErrUnavailable)
}

// OpenLibraries returns 0: nothing can be opened.
func OpenLibraries() int { return 0 }

// OpenModels returns 0: nothing can be opened.
func OpenModels() int { return 0 }

// A Library cannot exist in this build; [Open] always fails, and its methods with it.
type Library struct{}

// Open fails with an error that wraps [ErrUnavailable].
func Open(path string) (*Library, error) {
	return nil, fmt.Errorf("opening libdlr %s: %w", path, unavailable())
}

// Path returns an empty string.
func (l *Library) Path() string { return "" }

// Have fails with an error that wraps [ErrUnavailable], as all methods below that return one.
func (l *Library) Have(string) error { return unavailable() }

// Close does nothing.
func (l *Library) Close() error { return nil }

// Version fails.
func (l *Library) Version() (string, error) { return "", unavailable() }

// LastError fails.
func (l *Library) LastError() (string, error) { return "", unavailable() }

// DeviceType fails.
func (l *Library) DeviceType(string) (int, error) { return 0, unavailable() }

// SetCustomAllocatorMalloc fails.
func (l *Library) SetCustomAllocatorMalloc(unsafe.Pointer) error { return unavailable() }

// SetCustomAllocatorFree fails.
func (l *Library) SetCustomAllocatorFree(unsafe.Pointer) error { return unavailable() }

// SetCustomAllocatorMemalign fails.
func (l *Library) SetCustomAllocatorMemalign(unsafe.Pointer) error { return unavailable() }

// CreateModel fails.
func (l *Library) CreateModel(string, int, int) (*Model, error) { return nil, unavailable() }

// CreateModelFromElems fails.
func (l *Library) CreateModelFromElems([]Elem, int, int) (*Model, error) { return nil, unavailable() }

// CreatePipeline fails.
func (l *Library) CreatePipeline([]string, int, int) (*Model, error) { return nil, unavailable() }

// CreateModelFromHexagon fails.
func (l *Library) CreateModelFromHexagon(string, int) (*Model, error) { return nil, unavailable() }

// CreateModelFromTensorflow2 fails.
func (l *Library) CreateModelFromTensorflow2(string, Tensorflow2Config) (*Model, error) {
	return nil, unavailable()
}

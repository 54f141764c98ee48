//go:build !cgo || !linux

package dl

import (
	"fmt"
	"os"
	"unsafe"
)

// Probe returns the reason why this build cannot load native libraries, wrapping [ErrUnavailable].
func Probe() error {
	return fmt.Errorf("%w: this program was built without cgo or for another system than Linux; use a Linux build made with CGO_ENABLED=1", ErrUnavailable)
}

// GlibcVersion returns an empty string: without cgo there is no C library in the process.
func GlibcVersion() string { return "" }

// OpenCount returns 0: nothing can be opened.
func OpenCount() int { return 0 }

// RetainedCount returns 0: nothing can be opened.
func RetainedCount() int { return 0 }

// A Library cannot exist in this build: Open and OpenFile always fail.
type Library struct{}

// Open fails with the reason that [Probe] gives.
func Open(path string) (*Library, error) {
	return nil, fmt.Errorf("opening library %s: %w", path, Probe())
}

// OpenFile fails with the reason that [Probe] gives. It runs no check.
func OpenFile(_ *os.File, name string, _ ...Check) (*Library, error) {
	return nil, fmt.Errorf("opening library %s: %w", name, Probe())
}

// Name returns an empty string.
func (l *Library) Name() string { return "" }

// Symbol fails with the reason that [Probe] gives.
func (l *Library) Symbol(string) (unsafe.Pointer, error) { return nil, Probe() }

// Lookup finds nothing.
func (l *Library) Lookup(string) (unsafe.Pointer, bool) { return nil, false }

// Close does nothing.
func (l *Library) Close() error { return nil }

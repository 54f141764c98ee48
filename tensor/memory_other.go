//go:build !unix

package tensor

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// mapMemory takes memory from the Go heap: without cgo, as this system is built
// for, no native code will see it. A little more is taken for the alignment.
func mapMemory(n int) ([]byte, error) {
	memory := make([]byte, n+Alignment)
	for at := range Alignment {
		if uintptr(unsafe.Pointer(unsafe.SliceData(memory[at:])))%Alignment == 0 {
			mappedBytes.Add(int64(n))
			return memory[at : at+n : at+n], nil
		}
	}
	return nil, fmt.Errorf("no aligned address within %d bytes", Alignment)
}

func unmapMemory(memory []byte) { mappedBytes.Add(-int64(len(memory))) }

func lockMemory(memory []byte) error {
	return fmt.Errorf("pinning %d bytes: that is done on Unix systems only, and this is %s: %w", len(memory), runtime.GOOS, errors.ErrUnsupported)
}

//go:build cgo && linux

package dlr

// #include "arena.h"
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/tensor"
)

// pinned is the outcome of the one attempt to give the process an arena: the first
// Backend decides its size, and what kept it from one keeps the others.
var pinned struct {
	once sync.Once
	err  error
}

// useAllocator has libdlr allocate through our functions. They are C's: libdlr
// calls them on its own threads and often.
func useAllocator(library *cdlr.Library) error {
	// All three or none: what one of them made, its own kin has to free.
	for _, name := range []string{"SetDLRCustomAllocatorMalloc", "SetDLRCustomAllocatorFree", "SetDLRCustomAllocatorMemalign"} {
		if err := library.Have(name); err != nil {
			return err
		}
	}
	return errors.Join(
		library.SetCustomAllocatorMalloc(C.picket_arena_malloc),
		library.SetCustomAllocatorFree(C.picket_arena_free),
		library.SetCustomAllocatorMemalign(C.picket_arena_memalign))
}

// pinArena has those functions serve from one pinned Buffer of n bytes first.
func pinArena(n int) error {
	pinned.once.Do(func() { pinned.err = fillArena(n) })
	return pinned.err
}

// fillArena gives the arena a pinned Buffer, for good.
func fillArena(n int) error {
	b, err := tensor.Alloc(n)
	if err != nil {
		return fmt.Errorf("making a pinned arena for libdlr: %w", err)
	}
	err = b.Pin()
	if err == nil {
		if code := C.picket_arena_use(unsafe.Pointer(unsafe.SliceData(b.Bytes())), C.size_t(n)); code != 0 {
			err = syscall.Errno(code)
		}
	}
	if err != nil {
		b.Release()
		return fmt.Errorf("making a pinned arena for libdlr: %w", err)
	}
	return nil
}

// arenaUsed is how many bytes of the arena libdlr holds.
func arenaUsed() int { return int(C.picket_arena_used()) }

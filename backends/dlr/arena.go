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

// arenaOnce guards the arena, which is the process's as libdlr's allocator is.
var arenaOnce sync.Once

// useArena has libdlr allocate through our functions, which serve from one pinned
// Buffer of that size first; pinned 0 or less is for none. The functions are C's:
// libdlr calls them on its own threads and often.
func useArena(library *cdlr.Library, pinned int) error {
	for _, name := range []string{"SetDLRCustomAllocatorMalloc", "SetDLRCustomAllocatorFree", "SetDLRCustomAllocatorMemalign"} {
		if err := library.Have(name); err != nil {
			return err
		}
	}
	var err error
	if pinned > 0 {
		arenaOnce.Do(func() { err = fillArena(pinned) })
	}
	// All three or none: what one of them made, its own kin has to free. Without
	// an arena they are aligned all the same.
	return errors.Join(err,
		library.SetCustomAllocatorMalloc(C.picket_arena_malloc),
		library.SetCustomAllocatorFree(C.picket_arena_free),
		library.SetCustomAllocatorMemalign(C.picket_arena_memalign))
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

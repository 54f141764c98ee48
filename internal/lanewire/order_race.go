//go:build race

package lanewire

import (
	"runtime"
	"unsafe"
)

// order is what the race detector is told of sockets, as package syscall tells it of its Read and Write: whoever has read goes on after whoever wrote.
var order int

func beforeWrite() { runtime.RaceReleaseMerge(unsafe.Pointer(&order)) }

func afterRead() { runtime.RaceAcquire(unsafe.Pointer(&order)) }

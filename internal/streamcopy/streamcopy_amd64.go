package streamcopy

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

var available = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasSSE42

// What stream copies at once, and where it begins.
const (
	chunk = 256
	line  = 64
)

// split tells how many bytes are before the first line of dst, and how many of those behind it are whole chunks.
func split(dst []byte) (head, body int) {
	head = int(-uintptr(unsafe.Pointer(unsafe.SliceData(dst))) & (line - 1))
	return head, (len(dst) - head) &^ (chunk - 1)
}

// stream is Copy of chunks, at least one, to the beginning of a line.
func stream(dst, src []byte, sum uint32) uint32 {
	return ^copySum(unsafe.SliceData(dst), unsafe.SliceData(src[:len(dst)]), uintptr(len(dst)), ^sum)
}

// copySum copies n bytes, a multiple of chunk and not 0, to dst, the beginning of a line. state is the remainder of what was summed up
// before, as crc32.Update has it between its inversions; it returns that with src behind it.
//
//go:noescape
func copySum(dst, src *byte, n uintptr, state uint32) uint32

// Fetch has the processor fetch b, which is written soon, so that whoever writes need not wait for it.
func Fetch(b []byte) {
	if len(b) > 0 {
		fetch(unsafe.SliceData(b), uintptr(len(b)))
	}
}

// fetch asks for the lines of n bytes, at least one, and does not wait for them.
//
//go:noescape
func fetch(p *byte, n uintptr)

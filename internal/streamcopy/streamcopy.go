// Package streamcopy copies what is not looked at again soon: past the processor's caches, which keep what they hold, with its
// checksum made on the way, because to fetch it back for that would cost more than the copy.
package streamcopy

import "hash/crc32"

// Least is how many bytes are worth it: of fewer, those at the ends, which go through the caches, are too much.
const Least = 2 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Available tells whether this processor can: x86 with AVX-512 and VPCLMULQDQ.
func Available() bool { return available }

// Copy copies src to the start of dst, which has room for it, and returns the CRC-32C of what had that sum with src behind it. What it
// has copied is there for other threads as after any other writes. Where this processor cannot, or src is short, it is copied as usual.
func Copy(dst, src []byte, sum uint32) uint32 {
	dst = dst[:len(src)]
	if !available || len(src) < Least {
		return part(dst, src, sum)
	}
	head, body := split(dst)
	sum = part(dst[:head], src, sum)
	sum = stream(dst[head:][:body], src[head:], sum)
	return part(dst[head+body:], src[head+body:], sum)
}

// Sum is the CRC-32C of what had that sum with b behind it.
func Sum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

func part(dst, src []byte, sum uint32) uint32 { return Sum(sum, src[:copy(dst, src)]) }

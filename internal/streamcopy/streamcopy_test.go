package streamcopy

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// What is copied, and its checksum, are as copy and crc32.Update have them, of any length, from and to any address; what is around it
// stays as it was.
func TestCopy(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	src := make([]byte, 40<<10)
	for i := range src {
		src[i] = byte(random.Uint32())
	}
	lengths := []int{0, 1, 63, Least - 1, Least, Least + 1, Least + 255, Least + 256, 7680, 32 << 10}
	for range 2000 {
		lengths = append(lengths, random.IntN(12<<10))
	}
	dst := make([]byte, 40<<10)
	for _, n := range lengths {
		from, to, sum := src[random.IntN(128):][:n], random.IntN(128), random.Uint32()
		for i := range dst {
			dst[i] = 0xa5
		}
		got := Copy(dst[to:to+n+random.IntN(2)], from, sum)
		if want := crc32.Update(sum, castagnoli, from); got != want {
			t.Fatalf("%d bytes behind %#x have the sum %#x, it is %#x", n, sum, got, want)
		}
		if !bytes.Equal(dst[to:to+n], from) {
			t.Fatalf("%d bytes arrive otherwise", n)
		}
		if around := append(bytes.Clone(dst[:to]), dst[to+n:]...); !bytes.Equal(around, bytes.Repeat([]byte{0xa5}, len(around))) {
			t.Fatalf("copying %d bytes writes elsewhere", n)
		}
	}
}

func BenchmarkCopy(b *testing.B) {
	const run, room = 7680, 4 << 20
	src, dst := make([]byte, run), make([]byte, room)
	for _, c := range []struct {
		name string
		copy func(dst, src []byte, sum uint32) uint32
	}{{"past the caches", Copy}, {"as usual", part}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(run)
			sum, at := uint32(0), 0
			for b.Loop() {
				sum = c.copy(dst[at:], src, sum)
				if at += run + 72; at+run > room {
					at = 0
				}
			}
		})
	}
}

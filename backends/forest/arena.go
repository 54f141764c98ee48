//go:build cgo && linux

package forest

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// arena collects the tables of a model, to be copied into one range of memory, each aligned to a cache line. It keeps what
// it is given, which must not change before.
type arena struct {
	tables []table
	size   int
}

// table is a part of an arena with content.
type table struct {
	at      offset
	content []byte
}

// offset is where a table starts in an arena.
type offset int

// room makes a table of n zero bytes.
func (a *arena) room(n int) offset {
	at := offset(lines(a.size))
	a.size = int(at) + n
	return at
}

func (a *arena) bytes(values []byte) offset {
	at := a.room(len(values))
	a.tables = append(a.tables, table{at, values})
	return at
}

func (a *arena) u32(values []uint32) offset  { return a.bytes(bytesOf(values)) }
func (a *arena) f32(values []float32) offset { return a.bytes(bytesOf(values)) }
func (a *arena) f64(values []float64) offset { return a.bytes(bytesOf(values)) }

// write fills memory, which is at least as large as the arena, with the tables, and with zeros where there are none.
func (a *arena) write(memory []byte) {
	end := 0
	for _, t := range a.tables {
		clear(memory[end:t.at])
		end = int(t.at) + copy(memory[t.at:], t.content)
	}
	clear(memory[end:])
}

// bytesOf is the memory of values that hold no pointers, in the byte order of the host.
func bytesOf[T any](values []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(one)))
}

// put writes a float of the model's width at byte i.
func (p *plan) put(b []byte, v float64) {
	if p.wide {
		binary.LittleEndian.PutUint64(b, math.Float64bits(v))
	} else {
		binary.LittleEndian.PutUint32(b, math.Float32bits(float32(v)))
	}
}

func (p *plan) leafBytes() int {
	if p.wide {
		return 8
	}
	return 4
}

func u32s(in []int) []uint32 {
	out := make([]uint32, len(in))
	for i, v := range in {
		out[i] = uint32(v)
	}
	return out
}

func narrow(in []float64) []float32 {
	out := make([]float32, len(in))
	for i, v := range in {
		out[i] = float32(v)
	}
	return out
}

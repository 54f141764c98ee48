//go:build cgo && linux

package forest

import (
	"encoding/binary"
	"math"
)

// arena collects the tables of a model in one range of memory, each aligned to a cache line.
type arena struct{ data []byte }

// offset is where a table starts in an arena.
type offset int

func (a *arena) align() offset {
	for len(a.data)%64 != 0 {
		a.data = append(a.data, 0)
	}
	return offset(len(a.data))
}

// room makes a table of n zero bytes.
func (a *arena) room(n int) offset {
	at := a.align()
	a.data = append(a.data, make([]byte, n)...)
	return at
}

func (a *arena) u32(values []uint32) offset {
	at := a.align()
	for _, v := range values {
		a.data = binary.LittleEndian.AppendUint32(a.data, v)
	}
	return at
}

func (a *arena) bytes(values []byte) offset {
	at := a.align()
	a.data = append(a.data, values...)
	return at
}

func (a *arena) f32(values []float32) offset {
	at := a.align()
	for _, v := range values {
		a.data = binary.LittleEndian.AppendUint32(a.data, math.Float32bits(v))
	}
	return at
}

func (a *arena) f64(values []float64) offset {
	at := a.align()
	for _, v := range values {
		a.data = binary.LittleEndian.AppendUint64(a.data, math.Float64bits(v))
	}
	return at
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

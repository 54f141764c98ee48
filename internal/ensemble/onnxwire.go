package ensemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

var errWire = errors.New("it is no valid protocol buffers message: the file is cut short or damaged")

// wireField is one field of a protocol buffers message: the bits of a number, or the bytes of a text, a message or a
// packed list.
type wireField struct {
	number protowire.Number
	kind   protowire.Type
	bits   uint64
	bytes  []byte // part of the message that was read, not a copy
}

// wireFields calls field for every field of the message b, in order. Nothing nests: a message in a message is given as
// its bytes.
func wireFields(b []byte, field func(wireField) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		f := wireField{number: number, kind: kind}
		switch kind {
		case protowire.VarintType:
			f.bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.bits = uint64(v)
		case protowire.Fixed64Type:
			f.bits, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default: // groups, which ONNX does not have
			return errWire
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if err := field(f); err != nil {
			return err
		}
	}
	return nil
}

// message gives the bytes of a text or message.
func (f wireField) message() ([]byte, error) {
	if f.kind != protowire.BytesType {
		return nil, errWire
	}
	return f.bytes, nil
}

// integers is how many integers f holds, packed or alone.
func (f wireField) integers() int {
	if f.kind != protowire.BytesType {
		return 1
	}
	n := 0
	for _, b := range f.bytes { // the last byte of every number has its high bit clear
		if b < 0x80 {
			n++
		}
	}
	return n
}

// appendInts appends the integers of f to list.
func (f wireField) appendInts(list []int32) ([]int32, error) {
	one := func(bits uint64) error {
		if v := int64(bits); v < math.MinInt32 || v > math.MaxInt32 {
			return fmt.Errorf("%d does not fit 32 bits", v)
		}
		list = append(list, int32(bits))
		return nil
	}
	if f.kind == protowire.VarintType {
		err := one(f.bits)
		return list, err
	}
	b, err := f.message()
	for len(b) > 0 && err == nil {
		bits, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, errWire
		}
		b, err = b[n:], one(bits)
	}
	return list, err
}

// floats is how many numbers of size bytes f holds, packed or alone.
func (f wireField) floats(size int) int {
	if f.kind != protowire.BytesType {
		return 1
	}
	return len(f.bytes) / size
}

// appendFloats appends the numbers of f, float32 or float64 by their size in bytes, to list.
func (f wireField) appendFloats(list []float64, size int) ([]float64, error) {
	number := func(bits uint64) float64 {
		if size == 4 {
			return float64(math.Float32frombits(uint32(bits)))
		}
		return math.Float64frombits(bits)
	}
	switch {
	case f.kind == protowire.Fixed32Type && size == 4, f.kind == protowire.Fixed64Type && size == 8:
		return append(list, number(f.bits)), nil
	case f.kind != protowire.BytesType || len(f.bytes)%size != 0:
		return nil, errWire
	}
	for b := f.bytes; len(b) > 0; b = b[size:] {
		if size == 4 {
			list = append(list, number(uint64(binary.LittleEndian.Uint32(b))))
		} else {
			list = append(list, number(binary.LittleEndian.Uint64(b)))
		}
	}
	return list, nil
}

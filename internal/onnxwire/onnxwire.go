// Package onnxwire reads the messages of ONNX files field by field, without copying them and without a description of them: for files
// that are large, that nobody trusts, and of which little is wanted.
package onnxwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMessage says that bytes are no message at all.
var ErrMessage = errors.New("it is no valid protocol buffers message: the file is cut short or damaged")

// Field is one field of a message: the bits of a number, or the bytes of a text, a message or a packed list.
type Field struct {
	Number protowire.Number
	Kind   protowire.Type
	Bits   uint64
	Bytes  []byte // part of the message that was read, not a copy
}

// Fields calls visit for every field of the message b, in order, and fails with its error or with ErrMessage. Nothing nests: a message
// in a message is given as its bytes.
func Fields(b []byte, visit func(Field) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return ErrMessage
		}
		b = b[n:]
		f := Field{Number: number, Kind: kind}
		switch kind {
		case protowire.VarintType:
			f.Bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.Bits = uint64(v)
		case protowire.Fixed64Type:
			f.Bits, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.Bytes, n = protowire.ConsumeBytes(b)
		default: // groups, which ONNX does not have
			return ErrMessage
		}
		if n < 0 {
			return ErrMessage
		}
		b = b[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// Message is the bytes of a text or message.
func (f Field) Message() ([]byte, error) {
	if f.Kind != protowire.BytesType {
		return nil, ErrMessage
	}
	return f.Bytes, nil
}

// Each has visit look at what Message gives.
func (f Field) Each(visit func([]byte) error) error {
	b, err := f.Message()
	if err != nil {
		return err
	}
	return visit(b)
}

// maxText is far more than a name in an honest file has, in bytes.
const maxText = 4096

// Text is a name.
func (f Field) Text() (string, error) {
	b, err := f.Message()
	if err == nil && len(b) > maxText {
		err = fmt.Errorf("a name has %d characters", len(b))
	}
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// Integer is a number.
func (f Field) Integer() (int64, error) {
	if f.Kind != protowire.VarintType {
		return 0, ErrMessage
	}
	return int64(f.Bits), nil
}

// Integers is how many integers f holds, packed or alone.
func (f Field) Integers() int {
	if f.Kind != protowire.BytesType {
		return 1
	}
	n := 0
	for _, b := range f.Bytes { // the last byte of every number has its high bit clear
		if b < 0x80 {
			n++
		}
	}
	return n
}

// AppendInts appends the integers of f to list.
func (f Field) AppendInts(list []int32) ([]int32, error) {
	one := func(bits uint64) error {
		if v := int64(bits); v < math.MinInt32 || v > math.MaxInt32 {
			return fmt.Errorf("%d does not fit 32 bits", v)
		}
		list = append(list, int32(bits))
		return nil
	}
	if f.Kind == protowire.VarintType {
		err := one(f.Bits)
		return list, err
	}
	b, err := f.Message()
	for len(b) > 0 && err == nil {
		bits, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, ErrMessage
		}
		b, err = b[n:], one(bits)
	}
	return list, err
}

// Floats is how many numbers of size bytes f holds, packed or alone.
func (f Field) Floats(size int) int {
	if f.Kind != protowire.BytesType {
		return 1
	}
	return len(f.Bytes) / size
}

// AppendFloats appends the numbers of f, float32 or float64 by their size in bytes, to list.
func (f Field) AppendFloats(list []float64, size int) ([]float64, error) {
	number := func(bits uint64) float64 {
		if size == 4 {
			return float64(math.Float32frombits(uint32(bits)))
		}
		return math.Float64frombits(bits)
	}
	switch {
	case f.Kind == protowire.Fixed32Type && size == 4, f.Kind == protowire.Fixed64Type && size == 8:
		return append(list, number(f.Bits)), nil
	case f.Kind != protowire.BytesType || len(f.Bytes)%size != 0:
		return nil, ErrMessage
	}
	for b := f.Bytes; len(b) > 0; b = b[size:] {
		if size == 4 {
			list = append(list, number(uint64(binary.LittleEndian.Uint32(b))))
		} else {
			list = append(list, number(binary.LittleEndian.Uint64(b)))
		}
	}
	return list, nil
}

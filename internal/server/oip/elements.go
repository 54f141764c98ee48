package oip

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picket-ml/picket/tensor"
)

// contentsField is the field of an InferTensorContents message that has the
// elements of a type, and how they are encoded; 0 for types that have none.
func contentsField(d tensor.DType) (protowire.Number, protowire.Type) {
	switch d {
	case tensor.Bool:
		return 1, protowire.VarintType
	case tensor.Int8, tensor.Int16, tensor.Int32:
		return 2, protowire.VarintType
	case tensor.Int64:
		return 3, protowire.VarintType
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return 4, protowire.VarintType
	case tensor.Uint64:
		return 5, protowire.VarintType
	case tensor.FP32:
		return 6, protowire.Fixed32Type
	case tensor.FP64:
		return 7, protowire.Fixed64Type
	}
	return 0, 0
}

// countElements is how many elements of the type a contents message has. Elements
// in the field of another type are an error.
func countElements(b []byte, d tensor.DType) (int, error) {
	want, kind := contentsField(d)
	if want == 0 {
		return 0, fmt.Errorf("%s has no contents; send it as raw_input_contents", d)
	}
	n := 0
	err := fields(b, func(field protowire.Number, have protowire.Type, _ uint64, data []byte) error {
		switch {
		case field > 8: // a later version's
		case field != want:
			return errElements
		case have == kind:
			n++
		case have != protowire.BytesType:
			return errElements
		case kind == protowire.Fixed32Type:
			n += len(data) / 4
			return remainder(len(data) % 4)
		case kind == protowire.Fixed64Type:
			n += len(data) / 8
			return remainder(len(data) % 8)
		default:
			for _, c := range data {
				if c < 0x80 { // the last byte of a varint
					n++
				}
			}
			if len(data) > 0 && data[len(data)-1] >= 0x80 {
				return errElements
			}
		}
		return nil
	})
	return n, err
}

func remainder(n int) error {
	if n != 0 {
		return errElements
	}
	return nil
}

// copyElements writes the elements of a contents message to dst, which has room
// for as many as countElements says. Numbers that do not fit the type are an error.
func copyElements(dst []byte, b []byte, d tensor.DType) error {
	want, kind := contentsField(d)
	return fields(b, func(field protowire.Number, have protowire.Type, number uint64, data []byte) error {
		if field != want {
			return nil
		}
		if have == kind {
			var err error
			dst, err = putElement(dst, d, number)
			return err
		}
		if kind != protowire.VarintType {
			dst = dst[copy(dst, data):] // little-endian there as here
			return nil
		}
		for len(data) > 0 {
			v, n := protowire.ConsumeVarint(data)
			if n < 0 {
				return errElements
			}
			data = data[n:]
			var err error
			if dst, err = putElement(dst, d, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// putElement writes one element and returns what is left of dst.
func putElement(dst []byte, d tensor.DType, v uint64) ([]byte, error) {
	// Fields of 32 bits keep the lower half, as every decoder of the format does.
	signed, unsigned := int64(int32(v)), uint64(uint32(v))
	switch d {
	case tensor.Bool:
		dst[0] = 0
		if v != 0 {
			dst[0] = 1
		}
	case tensor.Int8:
		if signed != int64(int8(signed)) {
			return nil, fmt.Errorf("%d does not fit %s", signed, d)
		}
		dst[0] = byte(signed)
	case tensor.Uint8:
		if unsigned > math.MaxUint8 {
			return nil, fmt.Errorf("%d does not fit %s", unsigned, d)
		}
		dst[0] = byte(unsigned)
	case tensor.Int16:
		if signed != int64(int16(signed)) {
			return nil, fmt.Errorf("%d does not fit %s", signed, d)
		}
		binary.LittleEndian.PutUint16(dst, uint16(signed))
	case tensor.Uint16:
		if unsigned > math.MaxUint16 {
			return nil, fmt.Errorf("%d does not fit %s", unsigned, d)
		}
		binary.LittleEndian.PutUint16(dst, uint16(unsigned))
	case tensor.Int32, tensor.Uint32, tensor.FP32:
		binary.LittleEndian.PutUint32(dst, uint32(v))
	default:
		binary.LittleEndian.PutUint64(dst, v)
	}
	return dst[d.Size():], nil
}

package lanewire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/picket-ml/picket/tensor"
)

// Spec is one tensor of a signature. Dims[0] may be -1, for the number of rows.
type Spec struct {
	Name  string
	DType tensor.DType
	Dims  []int64
}

// dtypeCodes are the element types as numbers of the protocol. They never change.
var dtypeCodes = [...]tensor.DType{
	1: tensor.Bool, 2: tensor.Uint8, 3: tensor.Uint16, 4: tensor.Uint32, 5: tensor.Uint64,
	6: tensor.Int8, 7: tensor.Int16, 8: tensor.Int32, 9: tensor.Int64,
	10: tensor.FP16, 11: tensor.FP32, 12: tensor.FP64, 13: tensor.BF16,
}

func dtypeCode(d tensor.DType) (byte, bool) {
	for code, have := range dtypeCodes {
		if code > 0 && have == d {
			return byte(code), true
		}
	}
	return 0, false
}

// AppendSignature appends the payload of a model's frame to b.
func AppendSignature(b []byte, inputs, outputs []Spec) ([]byte, error) {
	if len(inputs) > math.MaxUint16 || len(outputs) > math.MaxUint16 {
		return nil, fmt.Errorf("describing a model: %d inputs and %d outputs are more than can be counted", len(inputs), len(outputs))
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(inputs)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(outputs)))
	for _, specs := range [][]Spec{inputs, outputs} {
		for _, s := range specs {
			code, ok := dtypeCode(s.DType)
			if !ok || len(s.Dims) > tensor.MaxRank || len(s.Name) > math.MaxUint16 {
				return nil, fmt.Errorf("describing a model: tensor %.64q of %s with %d dimensions cannot be sent", s.Name, s.DType, len(s.Dims))
			}
			b = append(b, code, byte(len(s.Dims)))
			b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Name)))
			for _, d := range s.Dims {
				b = binary.LittleEndian.AppendUint64(b, uint64(d))
			}
			b = append(b, s.Name...)
		}
	}
	return b, nil
}

var errShortSignature = errors.New("a signature ends before it is complete")

// ParseSignature reads the payload of a model's frame. Nothing is allocated for
// what is not there.
func ParseSignature(b []byte) (inputs, outputs []Spec, err error) {
	if len(b) < 4 {
		return nil, nil, errShortSignature
	}
	counts := [2]int{int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))}
	b = b[4:]
	var sides [2][]Spec
	for side, n := range counts {
		for range n {
			var s Spec
			if s, b, err = parseSpec(b); err != nil {
				return nil, nil, err
			}
			sides[side] = append(sides[side], s)
		}
	}
	if len(b) > 0 {
		return nil, nil, fmt.Errorf("%d bytes follow a signature", len(b))
	}
	return sides[0], sides[1], nil
}

func parseSpec(b []byte) (s Spec, rest []byte, err error) {
	if len(b) < 4 {
		return s, nil, errShortSignature
	}
	code, rank, name := int(b[0]), int(b[1]), int(binary.LittleEndian.Uint16(b[2:]))
	b = b[4:]
	if code == 0 || code >= len(dtypeCodes) {
		return s, nil, fmt.Errorf("a signature has the unknown element type %d", code)
	}
	if rank > tensor.MaxRank {
		return s, nil, fmt.Errorf("a signature has a tensor of %d dimensions, the limit is %d", rank, tensor.MaxRank)
	}
	if len(b) < 8*rank+name {
		return s, nil, errShortSignature
	}
	s.DType, s.Dims = dtypeCodes[code], make([]int64, rank)
	for i := range s.Dims {
		d := int64(binary.LittleEndian.Uint64(b[8*i:]))
		if d < 0 && (i > 0 || d != -1) {
			return s, nil, fmt.Errorf("a signature has %d as dimension %d", d, i)
		}
		s.Dims[i] = d
	}
	b = b[8*rank:]
	if s.Name = string(b[:name]); !utf8.ValidString(s.Name) {
		return s, nil, errors.New("a signature has a name that is not UTF-8")
	}
	if _, err := s.RowBytes(); err != nil {
		return s, nil, fmt.Errorf("a signature has a tensor that cannot be: %w", err)
	}
	return s, b[name:], nil
}

// HasRows tells whether the first dimension is the number of rows.
func (s *Spec) HasRows() bool { return len(s.Dims) > 0 && s.Dims[0] == -1 }

// RowBytes is the number of bytes of one row, or of the whole tensor where it
// has no rows.
func (s *Spec) RowBytes() (int, error) {
	var dims [tensor.MaxRank]int64
	n := copy(dims[:], s.Dims)
	if s.HasRows() {
		dims[0] = 1
	}
	shape, err := tensor.NewShape(dims[:n]...)
	if err != nil {
		return 0, err
	}
	return shape.ByteSize(s.DType)
}

package drift

import (
	"encoding/binary"
	"math"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// reader reads numbers of a tensor.
type reader struct {
	width int // numbers of a row
	read  func(t tensor.Tensor, i int) float64
}

// readers read all tensors of a side; values is how many numbers a row has, 0 where
// one of them has no rows or no numbers, or there are too many.
func readers(specs []engine.TensorSpec) (list []reader, values int) {
	for i := range specs {
		s := &specs[i]
		r := reader{width: 1, read: elements[s.DType]}
		for _, d := range s.Dims[min(1, len(s.Dims)):] {
			if d > maxWatched {
				return nil, 0
			}
			r.width *= int(d)
			if r.width > maxWatched {
				return nil, 0
			}
		}
		if values += r.width; r.read == nil || !s.HasRows() || r.width == 0 || values > maxWatched {
			return nil, 0
		}
		list = append(list, r)
	}
	return list, values
}

// elements read element i of each type that is a number.
var elements = map[tensor.DType]func(t tensor.Tensor, i int) float64{
	tensor.Bool:   func(t tensor.Tensor, i int) float64 { return float64(t.Bytes()[i]) },
	tensor.Uint8:  func(t tensor.Tensor, i int) float64 { return float64(t.Bytes()[i]) },
	tensor.Int8:   func(t tensor.Tensor, i int) float64 { return float64(int8(t.Bytes()[i])) },
	tensor.Uint16: func(t tensor.Tensor, i int) float64 { return float64(binary.LittleEndian.Uint16(t.Bytes()[2*i:])) },
	tensor.Int16: func(t tensor.Tensor, i int) float64 {
		return float64(int16(binary.LittleEndian.Uint16(t.Bytes()[2*i:])))
	},
	tensor.Uint32: func(t tensor.Tensor, i int) float64 { return float64(binary.LittleEndian.Uint32(t.Bytes()[4*i:])) },
	tensor.Int32: func(t tensor.Tensor, i int) float64 {
		return float64(int32(binary.LittleEndian.Uint32(t.Bytes()[4*i:])))
	},
	tensor.Uint64: func(t tensor.Tensor, i int) float64 { return float64(binary.LittleEndian.Uint64(t.Bytes()[8*i:])) },
	tensor.Int64: func(t tensor.Tensor, i int) float64 {
		return float64(int64(binary.LittleEndian.Uint64(t.Bytes()[8*i:])))
	},
	tensor.FP32: func(t tensor.Tensor, i int) float64 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Bytes()[4*i:])))
	},
	tensor.FP64: func(t tensor.Tensor, i int) float64 {
		return math.Float64frombits(binary.LittleEndian.Uint64(t.Bytes()[8*i:]))
	},
}

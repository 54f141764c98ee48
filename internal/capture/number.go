package capture

import (
	"encoding/binary"
	"math"

	"github.com/picket-ml/picket/tensor"
)

// number is the element at the start of b; NaN where its type has no numbers.
func number(d tensor.DType, b []byte) float64 {
	le := binary.LittleEndian
	switch d {
	case tensor.FP32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case tensor.FP64:
		return math.Float64frombits(le.Uint64(b))
	case tensor.BF16:
		return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
	case tensor.FP16:
		return half(le.Uint16(b))
	case tensor.Bool, tensor.Uint8:
		return float64(b[0])
	case tensor.Int8:
		return float64(int8(b[0]))
	case tensor.Uint16:
		return float64(le.Uint16(b))
	case tensor.Int16:
		return float64(int16(le.Uint16(b)))
	case tensor.Uint32:
		return float64(le.Uint32(b))
	case tensor.Int32:
		return float64(int32(le.Uint32(b)))
	case tensor.Uint64:
		return float64(le.Uint64(b))
	case tensor.Int64:
		return float64(int64(le.Uint64(b)))
	}
	return math.NaN()
}

// half is a number of 16 bits: 1 for the sign, 5 for the exponent, 10 for the rest.
func half(h uint16) float64 {
	sign, exponent, rest := 1-2*float64(h>>15), int(h>>10&31), float64(h&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(rest, -24)
	case 31:
		if rest != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+rest, exponent-25)
}

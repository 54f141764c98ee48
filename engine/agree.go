package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/picket-ml/picket/tensor"
)

// tolerance is how far two answers may be apart and still agree, as a part of the
// larger one and of their scale; see scale. It lets a sum be added up in another
// order and a transform come from another libm: a row that takes another branch of
// a tree is farther away, as a rule. Whole numbers and truth values, labels among
// them, are equal or do not agree; NaN agrees with NaN, an infinity with itself.
func tolerance(d tensor.DType) float64 {
	switch d {
	case tensor.FP16:
		return 2e-3 // two units in the last place
	case tensor.BF16:
		return 1.6e-2
	}
	return 1e-5
}

// difference says in words how the answers got differ from want, on the first
// rows of both, which have the same specs; it is empty where they agree.
func difference(got, want []tensor.Tensor, specs []TensorSpec, rows int) string {
	for i := range specs {
		g, w := got[i].Bytes(), want[i].Bytes()
		size := specs[i].DType.Size()
		if specs[i].HasRows() {
			n := got[i].Size() / int(got[i].Shape.Dim(0)) * rows
			g, w = g[:n], w[:n]
		}
		if bytes.Equal(g, w) {
			continue
		}
		limit, scale, worst, differ := tolerance(specs[i].DType), scale(specs[i].DType, w), -1.0, 0
		var a, b float64 // where they differ most
		for at := 0; at < len(g); at += size {
			if bytes.Equal(g[at:at+size], w[at:at+size]) {
				continue
			}
			x, y := number(specs[i].DType, g[at:]), number(specs[i].DType, w[at:])
			if isFloat(specs[i].DType) && agree(x, y, limit, scale) {
				continue
			}
			differ++
			apart := math.Abs(x - y)
			if apart != apart {
				apart = math.Inf(1) // one of them is NaN
			}
			if apart > worst {
				worst, a, b = apart, x, y
			}
		}
		if differ > 0 {
			return fmt.Sprintf("%d of %d numbers of output %q, by up to %.3g (%.6g against %.6g)", differ, len(g)/size, specs[i].Name, worst, a, b)
		}
	}
	return ""
}

// scale is what answers close to zero are measured by: the largest of the answers
// b, because what was added up to them may have been as large, and at most 1.
// Without it, models whose answers are all tiny would agree with anything.
func scale(d tensor.DType, b []byte) float64 {
	largest := 0.0
	for at := 0; at < len(b); at += d.Size() {
		if x := math.Abs(number(d, b[at:])); x > largest { // not NaN
			largest = x
		}
	}
	return min(largest, 1)
}

func agree(x, y, limit, scale float64) bool {
	if x == y || x != x && y != y {
		return true
	}
	return math.Abs(x-y) <= limit*(scale+max(math.Abs(x), math.Abs(y))) && !math.IsInf(x, 0) && !math.IsInf(y, 0)
}

func isFloat(d tensor.DType) bool {
	return d == tensor.FP16 || d == tensor.FP32 || d == tensor.FP64 || d == tensor.BF16
}

// number is the first element of b, which is little endian.
func number(d tensor.DType, b []byte) float64 {
	le := binary.LittleEndian
	switch d {
	case tensor.FP16:
		return half(le.Uint16(b))
	case tensor.BF16:
		return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
	case tensor.FP32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case tensor.FP64:
		return math.Float64frombits(le.Uint64(b))
	case tensor.Int8:
		return float64(int8(b[0]))
	case tensor.Int16:
		return float64(int16(le.Uint16(b)))
	case tensor.Int32:
		return float64(int32(le.Uint32(b)))
	case tensor.Int64:
		return float64(int64(le.Uint64(b)))
	case tensor.Uint16:
		return float64(le.Uint16(b))
	case tensor.Uint32:
		return float64(le.Uint32(b))
	case tensor.Uint64:
		return float64(le.Uint64(b))
	}
	return float64(b[0])
}

// half is the value of the bits of an FP16.
func half(bits uint16) float64 {
	sign, exponent, fraction := 1.0, int(bits>>10&0x1f), float64(bits&0x3ff)
	if bits>>15 != 0 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 0x1f:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

package rows

import "math"

// halfNaN is a quiet NaN of half precision.
const halfNaN = 0x7e00

// halfOf is the bits of v rounded to half precision, ties to even; too large a number becomes an infinity. It starts
// from float64 so that text is rounded once.
func halfOf(v float64) uint16 {
	sign := uint16(math.Float64bits(v) >> 63 << 15)
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return sign | halfNaN
	case a >= 65520: // half way from the largest half to what would follow
		return sign | 0x7c00
	case a < 1.0/(1<<14): // subnormal: multiples of 2^-24
		return sign | uint16(math.RoundToEven(a*(1<<24)))
	default:
		fraction, exponent := math.Frexp(a) // fraction in [0.5, 1)
		// The mantissa as an integer of 11 bits. Its top bit adds one to the exponent field, as does a carry.
		mantissa := uint16(math.RoundToEven(math.Ldexp(fraction, 11)))
		return sign | (uint16(exponent+13)<<10 + mantissa)
	}
}

// halfValue is the number that the bits stand for.
func halfValue(bits uint16) float32 {
	exponent, mantissa := int(bits>>10&0x1f), float64(bits&0x3ff)
	var v float64
	switch exponent {
	case 0:
		v = math.Ldexp(mantissa, -24)
	case 0x1f:
		v = math.Inf(1)
		if mantissa != 0 {
			return float32(math.NaN())
		}
	default:
		v = math.Ldexp(1024+mantissa, exponent-25)
	}
	if bits>>15 == 1 {
		v = -v
	}
	return float32(v)
}

func isHalfInf(bits uint16) bool { return bits&0x7fff == 0x7c00 }

package rows

import "math"

// brainNaN is a quiet NaN of bfloat16, the upper half of a float32.
const brainNaN = 0x7fc0

// brainOf is the bits of v rounded to bfloat16, ties to even; too large a number becomes an infinity.
func brainOf(v float64) uint16 {
	const largest = (2 - 1.0/256) * 0x1p127 // half way from the largest bfloat16 to what would follow
	sign := uint16(math.Float64bits(v) >> 63 << 15)
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return sign | brainNaN
	case a >= largest:
		return sign | 0x7f80
	case a < 0x1p-126: // subnormal: multiples of 2^-133
		return sign | uint16(math.RoundToEven(math.Ldexp(a, 133)))
	default:
		fraction, exponent := math.Frexp(a) // fraction in [0.5, 1)
		// The mantissa as an integer of 8 bits. Its top bit adds one to the exponent field, as does a carry.
		mantissa := uint16(math.RoundToEven(math.Ldexp(fraction, 8)))
		return sign | (uint16(exponent+125)<<7 + mantissa)
	}
}

// brainValue is the number that the bits stand for.
func brainValue(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }

func isBrainInf(bits uint16) bool { return bits&0x7fff == 0x7f80 }

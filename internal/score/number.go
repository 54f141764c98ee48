package score

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// powers are those of ten that float64 holds exactly.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// decimal reads a number at the start of text, such as -12.5e3, and says how many bytes it took. It gives up, with 0, on
// everything but decimal numbers of up to some 16 digits with a small exponent: their digits are a whole number that float64
// holds exactly, as it does the power of ten, so the one operation between the two rounds once, and the result is what
// strconv.ParseFloat gives.
func decimal(text []byte) (v float64, n int) {
	negative := false
	if len(text) > 0 && text[0] == '-' {
		negative, n = true, 1
	}
	start := n
	var digits uint64
	for ; n < len(text); n++ {
		d := text[n] - '0'
		if d > 9 {
			break
		}
		digits = digits*10 + uint64(d)
	}
	count, exponent := n-start, 0
	if n < len(text) && text[n] == '.' {
		n++
		from := n
		if value, k := eight(text[n:]); k > 0 { // most numbers have most of their digits here
			digits = digits*wholePowers[k] + value
			n += k
		}
		for ; n < len(text); n++ {
			d := text[n] - '0'
			if d > 9 {
				break
			}
			digits = digits*10 + uint64(d)
		}
		exponent = from - n
		count -= exponent
	}
	// Not so many that they have overflowed, and a number that float64 holds.
	if count == 0 || count > 19 || digits > 1<<53 {
		return 0, 0
	}
	if n < len(text) && text[n]|0x20 == 'e' {
		if exponent, n = exponentAt(text, n, exponent); n == 0 {
			return 0, 0
		}
	}
	v = float64(digits)
	switch {
	case exponent < -22 || exponent > 22:
		return 0, 0
	case exponent < 0:
		v /= powers[-exponent]
	case exponent > 0:
		v *= powers[exponent]
	}
	if negative {
		v = -v
	}
	return v, n
}

// wholePowers are those of ten up to that of eight digits.
var wholePowers = [...]uint64{1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000}

// eight reads the digits at the start of text, eight at the most, all at once: each is a byte of one word. It needs eight
// bytes to look at, and says 0 digits where there are fewer.
func eight(text []byte) (value uint64, n int) {
	if len(text) < 8 {
		return 0, 0
	}
	word := binary.LittleEndian.Uint64(text) ^ 0x3030303030303030 // digits are 0 to 9 now
	// A byte above 9 has its highest bit set by adding 0x76, or has it anyway. What that carries goes to bytes behind it.
	others := (word + 0x7676767676767676 | word) & 0x8080808080808080
	if n = 8; others != 0 {
		n = bits.TrailingZeros64(others) / 8
	}
	if n == 0 {
		return 0, 0
	}
	word <<= 8 * (8 - n) // zeros come before the first digit, which is the lowest byte
	word = word*10 + word>>8
	const mask, ofFours, ofTwos = 0x000000ff000000ff, 100 + 1_000_000<<32, 1 + 10_000<<32
	return ((word&mask)*ofFours + (word>>16&mask)*ofTwos) >> 32, n
}

// exponentAt reads an exponent of at most three digits, e at n, and adds it.
func exponentAt(text []byte, n, exponent int) (sum, end int) {
	n++
	sign := 1
	if n < len(text) && (text[n] == '-' || text[n] == '+') {
		if text[n] == '-' {
			sign = -1
		}
		n++
	}
	from, value := n, 0
	for ; n < len(text) && text[n]-'0' <= 9; n++ {
		if n-from == 3 {
			return 0, 0
		}
		value = value*10 + int(text[n]-'0')
	}
	if n == from {
		return 0, 0
	}
	return exponent + sign*value, n
}

// narrow rounds v, itself a number rounded to float64, to float32. It gives up where rounding twice could differ from
// rounding once: where v lies half way between two numbers of float32, and outside the range in which all of those have 24
// bits. Anywhere else v and the number it stands for lie on the same side of every half way, because those are numbers of
// float64.
func narrow(v float64) (float32, bool) {
	const below, half = 1<<29 - 1, 1 << 28 // the bits that float32 has no room for
	bits := math.Float64bits(v)
	if bits&below == half {
		return 0, false
	}
	if a := math.Abs(v); a != 0 && a < 0x1p-126 || a > math.MaxFloat32 {
		return 0, false
	}
	return float32(v), true
}

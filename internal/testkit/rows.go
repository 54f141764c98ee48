package testkit

import "math"

// The row generator is written twice, here and in scripts/fixtures/rows.py,
// because the expected outputs committed under testdata were computed in Python
// by the library that trained the model, over rows that no file stores. Both
// twins use integer mixing and float32 operations whose results are exact, so
// they agree bit for bit on every machine; TestRowsMatchPython pins that.

const (
	// missingBits is the NaN that marks a missing value: numpy's np.nan as float32.
	missingBits = 0x7fc00000
	// tiny stands in for an exact zero where a library takes 0.0 for missing. It is
	// subnormal, so it lies on the same side as 0.0 of every threshold a trainer
	// would choose (LightGBM's own zero threshold is 1e-35).
	tiny = float32(1e-40)
)

// Rows returns n rows of cols values, row-major. A cell depends on its row and
// column alone: Rows(1000, 30) is a prefix of Rows(10000, 30), and Rows(n, 12)
// holds the first 12 columns of Rows(n, 30).
//
// Columns repeat with period ten: 0 is an amount between 1 and 1016, spread evenly
// over its logarithm; 5 and 6 are integers 0 to 19 (one in twenty is an exact 0.0);
// 7 is a flag, 1 in one row of ten; the others are bell-shaped around 0 with a
// standard deviation of about 1 and never 0. One cell in twenty is NaN, that is,
// missing.
func Rows(n, cols int) []float32 {
	return rows(n, cols, math.Float32frombits(missingBits), 0)
}

// RowsNoZeros is Rows with every exact 0.0 replaced by 1e-40. libdlr 1.6 takes
// 0.0 for missing, so comparing through it needs rows without zeros.
func RowsNoZeros(n, cols int) []float32 {
	return rows(n, cols, math.Float32frombits(missingBits), tiny)
}

// RowsNoMissing is Rows with the value that each missing cell hides.
func RowsNoMissing(n, cols int) []float32 {
	out := make([]float32, 0, n*cols)
	for r := range n {
		for c := range cols {
			out = append(out, value(c, hash(r, c), 0))
		}
	}
	return out
}

func rows(n, cols int, missing, zero float32) []float32 {
	out := make([]float32, 0, n*cols)
	for r := range n {
		for c := range cols {
			h := hash(r, c)
			if mix(h)%20 == 0 {
				out = append(out, missing)
			} else {
				out = append(out, value(c, h, zero))
			}
		}
	}
	return out
}

// value turns a cell's hash into its value; zero is what an exact 0.0 becomes.
// Every operation is exact in float32: small integers times powers of two.
func value(col int, h uint64, zero float32) float32 {
	var v float32
	switch col % 10 {
	case 0:
		v = float32(64+(h>>10)&63) / 64 * float32(uint64(1)<<((h>>32)%10))
	case 5, 6:
		v = float32(h >> 32 % 20)
	case 7:
		if (h>>32)%10 == 0 {
			v = 1
		}
	default:
		// The sum of four uniform numbers, centred. The odd numerator keeps it off 0.
		sum := h&0xffff + (h>>16)&0xffff + (h>>32)&0xffff + h>>48
		v = float32(7*(2*int64(sum)-4*0xffff+1)) / (8 * 0x10000)
	}
	if v == 0 {
		return zero
	}
	return v
}

func hash(row, col int) uint64 {
	return mix(mix(uint64(row)) + uint64(col))
}

// mix is the output function of SplitMix64 applied to one step from z.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

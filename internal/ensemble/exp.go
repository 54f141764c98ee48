package ensemble

import "math"

// Exp is e to the power x, less than one unit in the last place from the true value. It is not math.Exp because its
// steps are laid down: additions and multiplications that are each rounded once, none fused, so that every processor,
// and the vector code of backends/forest, gives the same bits. A NaN stays one.
func Exp(x float64) float64 {
	// Beyond these bounds the answer is infinite or zero.
	if x > expMax {
		x = expMax
	}
	if x < expMin {
		x = expMin
	}
	k := float64(x*math.Log2E) + expRound - expRound
	r := x - float64(k*expLn2High) - float64(k*expLn2Low)
	r2 := float64(r * r)
	r4 := float64(r2 * r2)
	a := float64(1.0/2+float64(r*(1.0/6))) + float64(r2*float64(1.0/24+float64(r*(1.0/120))))
	b := float64(1.0/720+float64(r*(1.0/5040))) + float64(r2*float64(1.0/40320+float64(r*(1.0/362880))))
	c := float64(1.0/3628800+float64(r*(1.0/39916800))) + float64(r2*float64(1.0/479001600+float64(r*(1.0/6227020800))))
	p := 1 + (r + float64(r2*float64(a+float64(r4*float64(b+float64(r4*c))))))
	// In two steps, because 2^k itself may be out of range.
	half := float64(k*0.5) + expRound
	rest := k - (half - expRound) + expRound
	return p * expPower(half) * expPower(rest)
}

const (
	expMax = 710
	expMin = -746
	// Adding this to a small number rounds it to an integer, which the lowest bits then hold.
	expRound = 0x1.8p52
	// ln 2 in two parts, of which the first has so few bits that its product with k is exact.
	expLn2High = 6.93147180369123816490e-01
	expLn2Low  = 1.90821492927058770002e-10
)

// expPower is 2^k of expRound + k.
func expPower(rounded float64) float64 {
	return math.Float64frombits((math.Float64bits(rounded) + 1023) << 52)
}

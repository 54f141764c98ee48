// Package stats is the statistics that benchmarks draw their conclusions with. None of it assumes a distribution: times of
// requests have none with a name.
package stats

import (
	"math"
	"slices"

	"github.com/picket-ml/picket/bench/report"
)

// level is the least confidence of an interval, where there are values enough for it.
const level = 0.95

// Median is the middle of the values, or the middle between the two; NaN of none. It leaves them as they are.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Quantile is the value below which a share q of the values lies, between the two nearest where it falls between; NaN of none.
// It leaves them as they are.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	below := int(at)
	part := at - float64(below)
	if part == 0 {
		return sorted[below] // whatever is above, which may be infinite
	}
	return sorted[below] + part*(sorted[below+1]-sorted[below])
}

// Estimate is the median of the values and the narrowest interval between two of them, as far from either end, that covers the
// median of what they were drawn from with a confidence of 95%: the sign test turned round, as benchstat does it. Up to five
// values are too few; then it reaches from the least to the greatest, and its confidence is below. Of no values all is 0.
func Estimate(values []float64) report.Estimate {
	n := len(values)
	if n == 0 {
		return report.Estimate{}
	}
	sorted := slices.Sorted(slices.Values(values))
	k, confidence := 0, covers(n, 0)
	for 2*(k+1) < n && covers(n, k+1) >= level {
		k++
		confidence = covers(n, k)
	}
	return report.Estimate{Value: Median(sorted), Low: sorted[k], High: sorted[n-1-k], N: n, Confidence: confidence}
}

// covers is how probable it is that the median lies between value k and value n-1-k of n, sorted, counted from 0: that neither
// up to k values are below it nor up to k above.
func covers(n, k int) float64 {
	outside, ways := 0.0, 1.0 // ways is n over i
	for i := 0; i <= k; i++ {
		outside += ways
		ways *= float64(n-i) / float64(i+1)
	}
	return max(0, 1-2*outside*math.Pow(0.5, float64(n)))
}

// WarmUp is how many values at the beginning of a series are of a system that is not yet as it will be: those without which the
// mean of the rest is known best (MSER, the marginal standard error rule). Steady is false where that is half of them or
// more, or where the medians of the two halves of the rest are more than a tenth apart: then the series was too short, or
// something changed on the way.
func WarmUp(series []float64) (cut int, steady bool) {
	n := len(series)
	if n < 4 {
		return 0, n > 0
	}
	best := math.Inf(1)
	// From the end to the front, by Welford's method.
	mean, squares := 0.0, 0.0
	for i := n - 1; i >= 0; i-- {
		count := float64(n - i)
		delta := series[i] - mean
		mean += delta / count
		squares += delta * (series[i] - mean)
		// Fewer than half tell too little; equal is decided for the longer rest.
		if i <= n/2 {
			if e := squares / (count * count); e <= best {
				best, cut = e, i
			}
		}
	}
	rest := series[cut:]
	a, b := Median(rest[:len(rest)/2]), Median(rest[len(rest)/2:])
	return cut, cut < n/2 && math.Abs(a-b) <= 0.1*max(a, b)
}

package main

import (
	"slices"
	"sort"

	dto "github.com/prometheus/client_model/go"
)

// distribution is a histogram of durations in seconds.
type distribution struct {
	count, sum float64
	bounds     []float64 // ascending and finite
	below      []float64 // how many values are at most bounds[i]
}

func newDistribution(h *dto.Histogram) distribution {
	d := distribution{count: float64(h.GetSampleCount()), sum: finite(h.GetSampleSum())}
	for _, b := range h.GetBucket() {
		// The infinite one has as many as count.
		last := len(d.bounds) - 1
		if bound := b.GetUpperBound(); bound >= 0 && bound == finite(bound) && (last < 0 || bound > d.bounds[last]) {
			d.bounds = append(d.bounds, bound)
			below := float64(b.GetCumulativeCount())
			if last >= 0 {
				below = max(below, d.below[last])
			}
			d.below = append(d.below, below)
		}
	}
	return d
}

// since is what came since before; same is false where it is not before that d has grown from.
func (d distribution) since(before distribution) (_ distribution, same bool) {
	if before.bounds == nil && before.count == 0 {
		return d, true
	}
	if !slices.Equal(d.bounds, before.bounds) || d.count < before.count || d.sum < before.sum {
		return d, false
	}
	out := distribution{count: d.count - before.count, sum: d.sum - before.sum, bounds: d.bounds, below: make([]float64, len(d.below))}
	for i := range d.below {
		out.below[i] = d.below[i] - before.below[i]
		if out.below[i] < 0 {
			return d, false
		}
	}
	return out, true
}

// quantile is the duration in seconds that a fraction q of the values does not exceed, taken as evenly spread within its
// bucket, as Prometheus does; false when there are no values.
func (d distribution) quantile(q float64) (float64, bool) {
	if d.count <= 0 || len(d.bounds) == 0 {
		return 0, false
	}
	rank := q * d.count
	i := sort.Search(len(d.below), func(i int) bool { return d.below[i] >= rank })
	if i == len(d.bounds) {
		return d.bounds[i-1], true // beyond the last bucket that ends
	}
	lower, under := 0.0, 0.0
	if i > 0 {
		lower, under = d.bounds[i-1], d.below[i-1]
	}
	upper := d.bounds[i]
	if d.below[i] <= under {
		return upper, true
	}
	return lower + (upper-lower)*max(0, rank-under)/(d.below[i]-under), true
}

package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramBuckets(t *testing.T) {
	previous := -1
	for v := uint64(0); v < 1<<20; v++ {
		b := bucketOf(v)
		if b != previous && b != previous+1 {
			t.Fatalf("value %d is in bucket %d, after %d", v, b, previous)
		}
		previous = b
		if up := upperBound(b); v > up || up > v+v/4 {
			t.Fatalf("value %d is in bucket %d, which ends at %d", v, b, up)
		}
	}
	for _, v := range []uint64{1 << 41, 1 << 50, 1<<64 - 1} {
		if b := bucketOf(v); b != min(b, numBuckets-1) {
			t.Errorf("value %d is in bucket %d of %d", v, b, numBuckets)
		}
	}
}

func TestHistogramQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var values []int64
	for range 10000 {
		v := int64(random.ExpFloat64() * 1e5)
		values = append(values, v)
		h.record(v)
	}
	slices.Sort(values)
	s := h.snapshot()
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := values[int(q*float64(len(values)))-1]
		if got := int64(s.Quantile(q)); got < exact || got > exact+exact/4 {
			t.Errorf("quantile %v is %v, exactly %v", q, time.Duration(got), time.Duration(exact))
		}
	}
	for exponent := range 64 {
		want := uint64(0)
		for _, v := range values {
			if v>>exponent == 0 {
				want++
			}
		}
		if got := s.Below(exponent); got != want {
			t.Errorf("%d values are said to be below 2^%d, %d are", got, exponent, want)
		}
	}
	// The fifth of six values does not exceed it for a fraction of 0.83 only.
	var six histogram
	for _, v := range []int64{1, 1, 1, 1, 1, 100} {
		six.record(v)
	}
	sixTaken := six.snapshot()
	if got := sixTaken.Quantile(0.9); got < 100 {
		t.Errorf("nine tenths of five times 1 ns and once 100 ns are below %v", got)
	}
	if empty := (&Histogram{}).Quantile(0.5); empty != 0 {
		t.Errorf("the median of nothing is %v", empty)
	}
}

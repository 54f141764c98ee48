package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/picket-ml/picket/bench/report"
)

// TestEstimate compares with intervals from tables of the sign test.
func TestEstimate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   report.Estimate
	}{
		{nil, report.Estimate{}},
		{[]float64{7}, report.Estimate{Value: 7, Low: 7, High: 7, N: 1, Confidence: 0}},
		{[]float64{3, 1}, report.Estimate{Value: 2, Low: 1, High: 3, N: 2, Confidence: 0.5}},
		{[]float64{5, 1, 4, 2, 3}, report.Estimate{Value: 3, Low: 1, High: 5, N: 5, Confidence: 0.9375}},
		{[]float64{6, 5, 1, 4, 2, 3}, report.Estimate{Value: 3.5, Low: 1, High: 6, N: 6, Confidence: 0.96875}},
		{[]float64{9, 8, 7, 6, 5, 1, 4, 2, 3}, report.Estimate{Value: 5, Low: 2, High: 8, N: 9, Confidence: 0.9609375}},
	} {
		if got := Estimate(c.values); got != c.want {
			t.Errorf("Estimate(%v) = %+v, want %+v", c.values, got, c.want)
		}
	}
}

// TestEstimateCovers draws from a skewed distribution again and again and counts how often the interval has its median.
func TestEstimateCovers(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 5))
	const rounds = 4000
	for _, n := range []int{6, 9, 15, 30} {
		held, claimed := 0, 0.0
		values := make([]float64, n)
		for range rounds {
			for i := range values {
				values[i] = math.Exp(random.NormFloat64())
			}
			e := Estimate(values)
			if e.Low <= 1 && 1 <= e.High {
				held++
			}
			claimed = e.Confidence
		}
		// Four standard deviations of the count.
		if got := float64(held) / rounds; claimed < level || math.Abs(got-claimed) > 4*math.Sqrt(claimed*(1-claimed)/rounds) {
			t.Errorf("of %d values, %.4f of the intervals hold the median; they claim %.4f", n, got, claimed)
		}
	}
}

func TestWarmUp(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 6))
	series := func(n int, at func(i int) float64) []float64 {
		s := make([]float64, n)
		for i := range s {
			s[i] = at(i) * (1 + 0.01*random.NormFloat64())
		}
		return s
	}
	for _, c := range []struct {
		name        string
		series      []float64
		least, most int
		steady      bool
	}{
		{"steady", series(64, func(int) float64 { return 10 }), 0, 31, true},
		{"slow at first", series(64, func(i int) float64 { return 10 + 100*math.Exp(-float64(i)/2) }), 6, 31, true},
		{"ever slower", series(64, func(i int) float64 { return 10 + float64(i) }), 0, 32, false},
		{"another level half way", series(64, func(i int) float64 { return 10 + 10*float64(i/40) }), 0, 32, false},
		{"one hiccup", series(64, func(i int) float64 { return 10 + 50*float64(i/40)*float64(40/max(i, 1)) }), 0, 31, true},
		{"short", []float64{1, 2, 3}, 0, 0, true},
		{"none", nil, 0, 0, false},
	} {
		cut, steady := WarmUp(c.series)
		if cut < c.least || cut > c.most || steady != c.steady {
			t.Errorf("%s: WarmUp cuts %d, steady %t; want %d to %d, %t", c.name, cut, steady, c.least, c.most, c.steady)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 1: 4} {
		if got := Quantile([]float64{4, 1, 3, 2}, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	// A value that is infinite tells nothing of those below it.
	if got := Median([]float64{math.Inf(1), 2, 1}); got != 2 {
		t.Errorf("the median of 1, 2 and infinity is %v", got)
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("no values have a median")
	}
}

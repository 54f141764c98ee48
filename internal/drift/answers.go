package drift

import (
	"math"
	"slices"
)

// answers count the first number of each answer: in parts of equal width between what
// the baseline had, or between 0 and 1, and below and above.
type answers struct {
	low, width float64
	counts     [scoreBins + 2]uint64
	sum        float64
}

func newAnswers(low, high float64) *answers {
	return &answers{low: low, width: (high - low) / scoreBins}
}

func (a *answers) add(x float64) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return
	}
	a.sum += x
	at := (x - a.low) / a.width
	switch {
	case at < 0:
		a.counts[0]++
	case at > scoreBins:
		a.counts[scoreBins+1]++
	default:
		a.counts[1+min(int(at), scoreBins-1)]++
	}
}

// Answers is a histogram.
type Answers struct {
	// Edges are where parts end; the first part is below all, the last above all.
	Edges []float64
	// Counts are one more than Edges.
	Counts []uint64
	Sum    float64
}

// copy is what was counted.
func (a *answers) copy() Answers {
	c := Answers{Counts: slices.Clone(a.counts[:]), Sum: a.sum}
	for i := range scoreBins + 1 {
		c.Edges = append(c.Edges, a.low+a.width*float64(i))
	}
	return c
}

// Middle is the number that stands for part i.
func (a *Answers) Middle(i int) float64 {
	switch {
	case i == 0:
		return a.Edges[0]
	case i == len(a.Edges):
		return a.Edges[len(a.Edges)-1]
	}
	return (a.Edges[i-1] + a.Edges[i]) / 2
}

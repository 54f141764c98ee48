package monitor

import (
	"math"
	"slices"
	"strconv"
)

const (
	// maxBins is how many parts the numbers of a feature are divided into.
	maxBins = 10
	// fewValues is up to how many different numbers each has a part of its own.
	fewValues = 20
	// smallestShare stands for a part that is empty on one side, whose logarithm would
	// be infinite.
	smallestShare = 1e-4
	// comparedTexts is how many texts are compared one by one.
	comparedTexts = 50
)

// Bins divide the values of a feature as its baseline has them: numbers into parts
// of about a tenth each, or into single values where there are few; texts into
// values, and one part for all others.
type Bins struct {
	// Edges are the greatest numbers of all parts but the last, ascending.
	Edges []float64
	// Texts are the values of all parts but the last.
	Texts []string
	// Shares are the parts of the baseline, one more than Edges or Texts.
	Shares []float64

	// rounded tells that the edges are rounded as by single, so numbers must be too.
	rounded bool
}

// single is x as models take it and captured records mostly hold it. A training set has
// the decimals that somebody wrote, and 0.1 is 0.100000001 by then: as it is, it would be
// above the edge 0.1.
func single(x float64) float64 { return float64(float32(x)) }

// toSingle rounds the edges, unless parts would fall together: a feature whose numbers
// single precision cannot tell apart is compared as it is. greatest is the baseline's
// greatest number.
func (b *Bins) toSingle(greatest float64) {
	rounded := make([]float64, 0, len(b.Edges)+1)
	for _, edge := range append(slices.Clone(b.Edges), greatest) {
		x := single(edge)
		if n := len(rounded); n > 0 && rounded[n-1] == x || math.IsInf(x, 0) {
			return
		}
		rounded = append(rounded, x)
	}
	b.Edges, b.rounded = rounded[:len(b.Edges)], true
}

// BinsOf divides a feature; nil where its statistics do not say how its values are
// distributed.
func BinsOf(f *Feature) *Bins {
	switch {
	case f.Numerical != nil:
		d := f.Numerical.distribution()
		return numericBins(&d)
	case f.Strings != nil:
		return textBins(f.Strings)
	}
	return nil
}

// distribution is that of the sketch, or, without one, of the buckets, each of which
// is taken for so many numbers at its ends.
func (n *NumericalStatistics) distribution() distribution {
	if d := distributionOf(n.Distribution.KLL.Sketch.Data); d.total > 0 {
		return d
	}
	var levels []weighted
	var total float64
	for _, b := range n.Distribution.KLL.Buckets {
		if b.Count > 0 {
			levels = append(levels, weighted{b.UpperBound, b.Count})
			total += b.Count
		}
	}
	return distribution{levels, total}
}

func numericBins(d *distribution) *Bins {
	if d.total == 0 {
		return nil
	}
	b := &Bins{}
	if len(d.points) <= fewValues {
		for i, p := range d.points {
			if i < len(d.points)-1 {
				b.Edges = append(b.Edges, p.value)
			}
			b.Shares = append(b.Shares, p.weight/d.total)
		}
		b.toSingle(d.points[len(d.points)-1].value)
		return b
	}
	const part = 1.0 / maxBins
	var share float64
	last := len(d.points) - 1
	for i, p := range d.points {
		share += p.weight / d.total
		// A number that is a part by itself is not put together with those before it.
		heavyNext := i < last && d.points[i+1].weight/d.total >= part && share >= part/4
		if i < last && (share >= part || heavyNext) {
			b.Edges, b.Shares = append(b.Edges, p.value), append(b.Shares, share)
			share = 0
		}
	}
	b.Shares = append(b.Shares, share)
	b.toSingle(d.points[last].value)
	return b
}

func textBins(s *StringStatistics) *Bins {
	b := &Bins{}
	rest := 1.0
	for i, c := range s.Distribution.Categorical.Buckets {
		if i == comparedTexts || s.Common.Present <= 0 {
			break
		}
		share := c.Count / s.Common.Present
		b.Texts, b.Shares = append(b.Texts, c.Value), append(b.Shares, share)
		rest -= share
	}
	b.Shares = append(b.Shares, max(rest, 0))
	return b
}

// Index is the part that a number belongs to. There are so few edges that going through
// them is faster than a binary search.
func (b *Bins) Index(x float64) int {
	if b.rounded {
		x = single(x)
	}
	i := 0
	for i < len(b.Edges) && b.Edges[i] < x {
		i++
	}
	return i
}

// index is the part that a value belongs to, negative for none.
func (b *Bins) index(v Value) int {
	switch {
	case b.Texts != nil:
		text := v.Text
		if v.Kind == Number {
			text = formatNumber(v.Number)
		}
		for i, known := range b.Texts {
			if known == text {
				return i
			}
		}
		return len(b.Texts)
	case v.Kind == Number:
		return b.Index(v.Number)
	}
	return -1
}

// labels say what the parts are.
func (b *Bins) labels() []string {
	if b.Texts != nil {
		return append(append([]string{}, b.Texts...), "others")
	}
	short := func(x float64) string { return strconv.FormatFloat(x, 'g', 5, 64) }
	var labels []string
	for i := range b.Shares {
		switch {
		case len(b.Edges) == 0:
			labels = append(labels, "all")
		case i == 0:
			labels = append(labels, "up to "+short(b.Edges[0]))
		case i == len(b.Edges):
			labels = append(labels, "above "+short(b.Edges[i-1]))
		default:
			labels = append(labels, "to "+short(b.Edges[i]))
		}
	}
	return labels
}

// PSI is the population stability index: the sum over the parts of (actual -
// expected) * ln(actual / expected). Below 0.1 nothing has changed, above 0.2 much
// has, as it is mostly read.
func (b *Bins) PSI(counts []uint64) float64 {
	var total uint64
	for _, n := range counts {
		total += n
	}
	if total == 0 || len(counts) != len(b.Shares) {
		return 0
	}
	var sum float64
	for i, n := range counts {
		actual, expected := max(float64(n)/float64(total), smallestShare), max(b.Shares[i], smallestShare)
		sum += (actual - expected) * math.Log(actual/expected)
	}
	return sum
}

package monitor

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

const (
	// maxCategories is how many different values of a column are counted one by one.
	maxCategories = 4096
	// maxNumberCategories is that for numbers, which seldom turn out to be text.
	maxNumberCategories = 256
	// maxListed is how many values statistics list, maxDomain how many a domain has.
	maxListed = 1000
	maxDomain = 100
	// numBuckets is how many buckets of equal width there are, as in Model Monitor.
	numBuckets = 10
)

// column gathers what there is to say about one, in bounded memory.
type column struct {
	present, missing   uint64
	numbers, wholeOnes uint64
	sum, mean, m2      float64
	smallest, greatest float64
	sketch             *sketch
	categories         map[string]uint64 // texts; nothing is added once it is full
	numberCategories   map[float64]uint64
	others             uint64 // texts that are not in categories
	numberOthers       bool   // there were too many numbers to count one by one
	distinct           distinct
}

func newColumn() *column {
	return &column{sketch: newSketch(), categories: map[string]uint64{}, numberCategories: map[float64]uint64{}}
}

func (c *column) add(v Value) {
	switch v.Kind {
	case Absent:
		return
	case Missing:
		c.missing++
		return
	case Number:
		c.present++
		c.number(v.Number)
	case Text:
		c.present++
		if _, known := c.categories[v.Text]; known || len(c.categories) < maxCategories {
			c.categories[v.Text]++
		} else {
			c.others++
		}
		c.distinct.addText(v.Text)
	}
}

func (c *column) number(x float64) {
	c.numbers++
	if whole(x) {
		c.wholeOnes++
	}
	if c.numbers == 1 {
		c.smallest, c.greatest = x, x
	}
	c.smallest, c.greatest = min(c.smallest, x), max(c.greatest, x)
	c.sum += x
	delta := x - c.mean
	c.mean += delta / float64(c.numbers)
	c.m2 += delta * (x - c.mean)
	c.sketch.add(x)
	if c.numberOthers {
		return
	}
	c.numberCategories[x]++
	if len(c.numberCategories) > maxNumberCategories {
		c.numberCategories, c.numberOthers = nil, true
	}
}

// kind is what the column is.
func (c *column) kind() Type {
	switch {
	case c.present == 0:
		return Unknown
	case c.numbers < c.present:
		return String
	case c.wholeOnes == c.numbers:
		return Integral
	}
	return Fractional
}

func (c *column) feature(name string) Feature {
	f := Feature{Name: name, Type: c.kind()}
	common := Common{Present: float64(c.present), Missing: float64(c.missing)}
	switch {
	case f.Type.numeric():
		f.Numerical = &NumericalStatistics{
			Common: common, Mean: c.mean, Sum: c.sum, StdDev: math.Sqrt(c.m2 / float64(c.numbers)), Min: c.smallest, Max: c.greatest,
		}
		f.Numerical.Distribution.KLL = KLL{
			Buckets: c.buckets(),
			Sketch:  Sketch{Parameters: SketchParameters{C: sketchShrink, K: sketchSize}, Data: c.sketch.sorted()},
		}
	case f.Type == String:
		all, distinct := c.texts()
		f.Strings = &StringStatistics{Common: common, DistinctCount: distinct}
		f.Strings.Distribution.Categorical.Buckets = all[:min(len(all), maxListed)]
	}
	return f
}

// sorted are the levels, each in order: what was added in which order is nobody's
// business.
func (s *sketch) sorted() [][]float64 {
	levels := make([][]float64, len(s.levels))
	for i, level := range s.levels {
		levels[i] = slices.Clone(level)
		if levels[i] == nil {
			levels[i] = []float64{}
		}
		slices.Sort(levels[i])
	}
	return levels
}

// buckets are of equal width between the smallest and the greatest number.
func (c *column) buckets() []Bucket {
	d := distributionOf(c.sketch.levels)
	list := make([]Bucket, numBuckets)
	width := c.greatest - c.smallest
	for i := range list {
		b := &list[i]
		b.LowerBound = c.smallest + width*float64(i)/numBuckets
		b.UpperBound = c.smallest + width*float64(i+1)/numBuckets
		if i == numBuckets-1 {
			b.UpperBound = c.greatest
		}
		b.Count = d.below(b.UpperBound, i < numBuckets-1) - d.below(b.LowerBound, true)
	}
	return list
}

// texts are the values, those first that are there most, and how many there are.
func (c *column) texts() (all []Category, distinct float64) {
	counts := maps.Clone(c.categories)
	for x, n := range c.numberCategories {
		counts[formatNumber(x)] += n
	}
	for text, n := range counts {
		all = append(all, Category{text, float64(n)})
	}
	slices.SortFunc(all, func(a, b Category) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Value, b.Value))
	})
	if c.others == 0 {
		return all, float64(len(all))
	}
	return all, math.Round(c.distinct.estimate())
}

// constraint is what the column suggests that data must be like.
func (c *column) constraint(name string) FeatureConstraint {
	f := FeatureConstraint{Name: name, Type: c.kind()}
	if total := c.present + c.missing; total > 0 {
		f.Completeness = float64(c.present) / float64(total)
	}
	switch {
	case f.Type.numeric():
		f.Numbers = &NumberConstraints{NonNegative: c.smallest >= 0}
	case f.Type == String:
		if all, distinct := c.texts(); distinct <= maxDomain && !c.numberOthers {
			f.Strings = &StringConstraints{}
			for _, one := range all {
				f.Strings.Domains = append(f.Strings.Domains, one.Value)
			}
			slices.Sort(f.Strings.Domains)
		}
	}
	return f
}

// distinct estimates how many different texts there were by the smallest of their
// hashes: the closer together those are, the more texts.
type distinct struct {
	smallest []uint64 // ascending
}

const distinctKept = 1024

func (d *distinct) addText(text string) {
	h := xxhash.Sum64String(text)
	if len(d.smallest) == distinctKept && h >= d.smallest[distinctKept-1] {
		return
	}
	at, there := slices.BinarySearch(d.smallest, h)
	if there {
		return
	}
	d.smallest = slices.Insert(d.smallest, at, h)
	d.smallest = d.smallest[:min(len(d.smallest), distinctKept)]
}

func (d *distinct) estimate() float64 {
	n := len(d.smallest)
	if n < distinctKept {
		return float64(n)
	}
	return float64(n-1) / (float64(d.smallest[n-1]) / math.Ldexp(1, 64))
}

package monitor

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// The parameters that Model Monitor's own sketches have.
const (
	sketchSize   = 2048
	sketchShrink = 0.64
)

// sketch is a KLL sketch of quantiles: levels of numbers, of which one on level i
// stands for 2^i that were added. When a level is full it is sorted, and every
// second number of it goes one level up. Of n numbers it keeps about 3 times
// sketchSize, and a rank is off by less than 0.2% of n, mostly.
type sketch struct {
	levels [][]float64
	kept   int
	limit  int
	// coin decides which half goes up. It begins with the same seed each time, so
	// that the same data give the same sketch.
	coin *rand.Rand
}

func newSketch() *sketch {
	s := &sketch{coin: rand.New(rand.NewPCG(1, 2))}
	s.grow()
	return s
}

// capacity is how many numbers a level may have: the highest sketchSize, those below
// fewer and fewer.
func (s *sketch) capacity(level int) int {
	return int(math.Ceil(math.Pow(sketchShrink, float64(len(s.levels)-1-level))*sketchSize)) + 1
}

func (s *sketch) grow() {
	s.levels = append(s.levels, nil)
	s.limit = 0
	for level := range s.levels {
		s.limit += s.capacity(level)
	}
}

func (s *sketch) add(x float64) {
	s.levels[0] = append(s.levels[0], x)
	s.kept++
	if s.kept >= s.limit {
		s.compress()
	}
}

// compress halves the lowest level that is full.
func (s *sketch) compress() {
	for level := 0; level < len(s.levels); level++ {
		full := s.levels[level]
		if len(full) < s.capacity(level) {
			continue
		}
		if level+1 == len(s.levels) {
			s.grow()
		}
		slices.Sort(full)
		odd := len(full) & 1 // the last one stays where it is
		first := int(s.coin.Uint64() & 1)
		for i := first; i < len(full)-odd; i += 2 {
			s.levels[level+1] = append(s.levels[level+1], full[i])
		}
		s.levels[level] = append(full[:0], full[len(full)-odd:]...)
		s.kept -= (len(full) - odd) / 2
		return
	}
}

// weighted is a number and how many it stands for.
type weighted struct {
	value  float64
	weight float64
}

// distribution is a set of weighted numbers, ascending, each value once.
type distribution struct {
	points []weighted
	total  float64
}

// distributionOf is what levels of a sketch say.
func distributionOf(levels [][]float64) distribution {
	var d distribution
	for level, numbers := range levels {
		for _, x := range numbers {
			d.points = append(d.points, weighted{x, math.Ldexp(1, level)})
		}
	}
	slices.SortFunc(d.points, func(a, b weighted) int { return cmp.Compare(a.value, b.value) })
	d.merge()
	return d
}

// merge makes one point of those of the same value, which are beside each other.
func (d *distribution) merge() {
	merged := d.points[:0]
	d.total = 0
	for _, p := range d.points {
		d.total += p.weight
		if n := len(merged); n > 0 && merged[n-1].value == p.value {
			merged[n-1].weight += p.weight
			continue
		}
		merged = append(merged, p)
	}
	d.points = merged
}

// toSingle rounds the values as single does, which keeps their order.
func (d *distribution) toSingle() {
	for i := range d.points {
		d.points[i].value = single(d.points[i].value)
	}
	d.merge()
}

// below is the weight of the numbers up to x, or, if strict, of those below it.
func (d *distribution) below(x float64, strict bool) float64 {
	var sum float64
	for _, p := range d.points {
		if p.value > x || strict && p.value == x {
			break
		}
		sum += p.weight
	}
	return sum
}

// distance is the largest difference between two distribution functions: that of
// Kolmogorov and Smirnov.
func (d *distribution) distance(o *distribution) float64 {
	if d.total == 0 || o.total == 0 {
		return 0
	}
	var largest, here, there float64
	i, j := 0, 0
	for i < len(d.points) || j < len(o.points) {
		x := math.Inf(1)
		if i < len(d.points) {
			x = d.points[i].value
		}
		if j < len(o.points) {
			x = min(x, o.points[j].value)
		}
		if i < len(d.points) && d.points[i].value == x {
			here += d.points[i].weight
			i++
		}
		if j < len(o.points) && o.points[j].value == x {
			there += o.points[j].weight
			j++
		}
		largest = max(largest, math.Abs(here/d.total-there/o.total))
	}
	return largest
}

package forest

import (
	"math"

	"github.com/picket-ml/picket/internal/ensemble"
)

// reference is the kernel in Go: what programs without C run, and what the kernels in C are held against.
type reference struct{ *plan }

// margins writes the sums of each row to out, before any transform. row holds len(views) values of scratch.
func (p reference) margins(in []float32, rows int, out []float64, row []float32) {
	for r := range rows {
		from := in[r*p.features : (r+1)*p.features]
		for i, v := range p.views {
			row[i] = v.of(from)
		}
		for g := range p.groups {
			out[r*p.groups+g] = p.sum(g, row)
		}
	}
}

func (p reference) sum(g int, row []float32) float64 {
	trees := p.trees[p.groupFirst[g]:p.groupFirst[g+1]]
	if p.wide {
		sum := p.base[g]
		for i := range trees {
			sum += p.leaves[trees[i].walk(row)]
		}
		return sum
	}
	sum := float32(p.base[g])
	if p.baseLast {
		sum = 0
	}
	for i := range trees {
		sum += float32(p.leaves[trees[i].walk(row)])
	}
	if p.baseLast {
		sum += float32(p.base[g])
	}
	return float64(sum)
}

// of is the view's value in a row of columns.
func (v view) of(row []float32) float32 {
	x := row[v.column]
	switch {
	case v.missing == ensemble.MissingNone && x != x:
		return 0
	case v.missing == ensemble.MissingZero && x >= -ensemble.ZeroThreshold && x <= ensemble.ZeroThreshold:
		return nan32
	}
	return x
}

// walk is the number of the leaf where a row of views ends.
func (t *tree) walk(row []float32) int32 {
	i := int32(0)
	for {
		n := &t.nodes[i]
		if n.leaf >= 0 {
			return n.leaf
		}
		i = n.left
		if n.goesRight(row[n.view]) {
			i++
		}
	}
}

func (n *node) goesRight(x float32) bool {
	switch n.op {
	case ensemble.SetLeft:
		return !(x > -1 && x < math.MaxInt32 && inSet(n.set, uint32(x)))
	case ensemble.SetRight:
		if x != x {
			return n.right
		}
		return x >= 0 && x < 1<<24 && inSet(n.set, uint32(x))
	}
	if x != x {
		return n.right
	}
	return x >= n.threshold
}

func inSet(words []uint32, c uint32) bool {
	return int(c/32) < len(words) && words[c/32]>>(c%32)&1 == 1
}

package forest

import (
	"cmp"
	"math"
	"slices"

	"github.com/picket-ml/picket/internal/ensemble"
)

// view is a column with what counts as missing in it. Kernels see rows as views, in which NaN is missing.
type view struct {
	column  int32
	missing ensemble.Missing
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

// unit is at most maxRank thresholds of a view, ascending. The rank of a value is how many of them are not above it.
type unit struct {
	view       int32
	thresholds []float32 // a NaN at the end is a threshold that nothing reaches
}

// maxRank keeps a rank in a byte, with 255 left for missing values that go right.
const maxRank = 255

// node is a node of a tree of the plan. Children lie side by side: right is left + 1.
type node struct {
	threshold float32 // right if x >= threshold; NaN in leaves and sets
	view      int32
	right     bool // missing values go right
	op        ensemble.Op
	set       []uint32 // categories of SetLeft and SetRight
	left      int32    // of a leaf: itself
	leaf      int32    // of a leaf: its number in plan.leaves; of others -1
	unit      int32    // of a split by threshold: its unit and
	rank      uint8    // its place there: right if the rank of x is at least this
}

// tree is a tree of the plan. Node 0 is the root.
type tree struct {
	group, depth int
	sets         bool // it has splits by set
	nodes        []node
	leaves       int
}

// plan is a model in the form that all layouts are made of.
type plan struct {
	features, groups int
	wide             bool // leaves and sums are float64
	base             []float64
	baseLast         bool
	plain            bool // views are the columns
	views            []view
	units            []unit
	trees            []tree // the trees of a group side by side, in their order
	groupFirst       []int  // groups + 1
	leaves           []float64
	sets             bool
	depth            int
}

// manyColumns is how many columns are too many to look at all of them where most have no split. A few bytes of a model file
// can claim a million.
const manyColumns = 4096

// newPlan makes the plan of e, which it does not keep.
func newPlan(e *ensemble.Ensemble) *plan {
	p := &plan{features: e.NumFeature, groups: e.Groups, wide: e.Wide(), baseLast: e.BaseLast}
	for _, b := range e.BaseMargin {
		p.base = append(p.base, float64(b))
	}
	viewOf := p.makeViews(e)
	order := make([]int, len(e.Trees))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(e.Trees[a].Group, e.Trees[b].Group) })
	p.groupFirst = make([]int, p.groups+1)
	for _, i := range order {
		t := &e.Trees[i]
		p.groupFirst[t.Group+1]++
		p.trees = append(p.trees, p.makeTree(t, viewOf))
		p.depth = max(p.depth, t.Depth)
		p.sets = p.sets || p.trees[len(p.trees)-1].sets
	}
	for g := range p.groups {
		p.groupFirst[g+1] += p.groupFirst[g]
	}
	p.makeUnits()
	return p
}

// makeViews gives every column one view, or, where values other than NaN are missing somewhere, every column as many as
// the splits ask for.
func (p *plan) makeViews(e *ensemble.Ensemble) map[view]int32 {
	p.plain = true
	viewOf := map[view]int32{}
	each := func(f func(view)) {
		for i := range e.Trees {
			for j := range e.Trees[i].Nodes {
				if n := &e.Trees[i].Nodes[j]; n.Op != ensemble.Leaf {
					f(viewOfNode(n))
				}
			}
		}
	}
	used := map[int32]bool{}
	each(func(v view) {
		p.plain = p.plain && v.missing == ensemble.MissingNaN
		used[v.column] = true
	})
	if p.features > manyColumns && p.features > 4*len(used) {
		p.plain = false // most columns are for nothing
	}
	if p.plain {
		for c := range int32(p.features) {
			viewOf[view{c, ensemble.MissingNaN}] = c
			p.views = append(p.views, view{c, ensemble.MissingNaN})
		}
		return viewOf
	}
	each(func(v view) {
		if _, ok := viewOf[v]; !ok {
			viewOf[v] = int32(len(p.views))
			p.views = append(p.views, v)
		}
	})
	return viewOf
}

// viewOfNode is what a split looks at. Sets look at the value itself.
func viewOfNode(n *ensemble.Node) view {
	if n.Op == ensemble.SetLeft || n.Op == ensemble.SetRight {
		return view{n.Feature, ensemble.MissingNaN}
	}
	return view{n.Feature, n.Missing}
}

// makeTree copies what can be reached of t, level by level.
func (p *plan) makeTree(t *ensemble.Tree, viewOf map[view]int32) tree {
	out := tree{group: t.Group, depth: t.Depth}
	from := []int32{0} // the node of t that a node of out is
	out.nodes = make([]node, 1, len(t.Nodes))
	for i := 0; i < len(from); i++ {
		n := &t.Nodes[from[i]]
		if n.Op == ensemble.Leaf {
			v := n.Value
			if !p.wide {
				v = float64(float32(v) * t.Scale)
			}
			out.nodes[i] = node{threshold: nan32, left: int32(i), leaf: int32(len(p.leaves))}
			p.leaves = append(p.leaves, v)
			out.leaves++
			continue
		}
		m := node{threshold: nan32, view: viewOf[viewOfNode(n)], right: !n.DefaultLeft, op: n.Op, left: int32(len(from)), leaf: -1}
		switch n.Op {
		case ensemble.Less:
			m.threshold = float32(n.Value)
		case ensemble.LessEqual:
			m.threshold = above(n.Value)
		default:
			m.set = t.Categories[n.Set]
			out.sets = true
		}
		out.nodes[i] = m
		from = append(from, n.Left, n.Right)
		out.nodes = append(out.nodes, node{}, node{})
	}
	return out
}

var nan32 = float32(math.NaN())

// above is the least float32 above t, so that x <= t is !(x >= above(t)) for every float32 x; NaN where there is none.
func above(t float64) float32 {
	down := float32(t)
	if float64(down) > t {
		down = math.Nextafter32(down, float32(math.Inf(-1)))
	}
	if math.IsInf(float64(down), 1) {
		return nan32
	}
	return math.Nextafter32(down, float32(math.Inf(1)))
}

// makeUnits collects the distinct thresholds of each view and tells every node its rank.
func (p *plan) makeUnits() {
	thresholds := make([][]float32, len(p.views))
	p.splits(func(n *node) { thresholds[n.view] = append(thresholds[n.view], n.threshold) })
	var rank ranker
	p.units, rank = unitsOf(thresholds)
	p.splits(func(n *node) { n.unit, n.rank = rank(n.view, n.threshold) })
}

// ranker gives the unit of a threshold of the list of that number, and its place there.
type ranker func(list int32, threshold float32) (unit int32, rank uint8)

// unitsOf makes units of lists of thresholds, which it sorts.
func unitsOf(lists [][]float32) ([]unit, ranker) {
	var units []unit
	first := make([]int32, len(lists))
	for i, t := range lists {
		slices.SortFunc(t, ascending)
		t = slices.CompactFunc(t, func(a, b float32) bool { return ascending(a, b) == 0 })
		lists[i] = t
		first[i] = int32(len(units))
		for part := range slices.Chunk(t, maxRank) {
			units = append(units, unit{view: int32(i), thresholds: part})
		}
	}
	return units, func(list int32, threshold float32) (int32, uint8) {
		at, _ := slices.BinarySearchFunc(lists[list], threshold, ascending)
		return first[list] + int32(at/maxRank), uint8(at%maxRank + 1)
	}
}

// isSet tells whether the split is by set.
func (n *node) isSet() bool {
	return n.leaf < 0 && (n.op == ensemble.SetLeft || n.op == ensemble.SetRight)
}

// splits calls f for every split by threshold.
func (p *plan) splits(f func(*node)) {
	for i := range p.trees {
		for j := range p.trees[i].nodes {
			if n := &p.trees[i].nodes[j]; n.leaf < 0 && !n.isSet() {
				f(n)
			}
		}
	}
}

// ascending orders NaN last, and zeros of either sign as equal.
func ascending(a, b float32) int {
	switch {
	case a != a && b != b:
		return 0
	case a != a:
		return 1
	case b != b:
		return -1
	}
	return cmp.Compare(a, b)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

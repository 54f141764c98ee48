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

// maxRank keeps a rank in a byte, with 255 left for missing values that go right. A unit has at most so many ranks.
const (
	maxRank = 255
	ranks   = 256
)

// node is a node of a tree of the plan. Children lie side by side: right is left + 1. Models have millions, so it is small and
// holds no pointers, which the garbage collector would have to follow.
type node struct {
	threshold float32 // right if x >= threshold; NaN in leaves and sets
	view      int32
	set       int32 // of SetLeft and SetRight: their place in plan.categories
	left      int32 // of a leaf: itself
	leaf      int32 // of a leaf: its number in plan.leaves; of others -1
	unit      int32 // of a split by threshold: its unit and
	rank      uint8 // its place there: right if the rank of x is at least this
	right     bool  // missing values go right
	op        ensemble.Op
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
	categories       [][]uint32 // of the splits by set, a bit each
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
	nodes := 0
	for i := range e.Trees {
		nodes += len(e.Trees[i].Nodes)
	}
	p.trees, p.leaves = make([]tree, 0, len(order)), make([]float64, 0, (nodes+len(order))/2)
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
	from := make([]int32, 1, len(t.Nodes)) // the node of t that a node of out is
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
		v := n.Feature
		if !p.plain {
			v = viewOf[viewOfNode(n)]
		}
		m := node{threshold: nan32, view: v, right: !n.DefaultLeft, op: n.Op, left: int32(len(from)), leaf: -1}
		switch n.Op {
		case ensemble.Less:
			m.threshold = float32(n.Value)
		case ensemble.LessEqual:
			m.threshold = ensemble.Above(n.Value)
		default:
			m.set = int32(len(p.categories))
			p.categories = append(p.categories, t.Categories[n.Set])
			out.sets = true
		}
		out.nodes[i] = m
		from = append(from, n.Left, n.Right)
		out.nodes = append(out.nodes, node{}, node{})
	}
	return out
}

var nan32 = float32(math.NaN())

// makeUnits collects the distinct thresholds of each view and tells every node its rank.
func (p *plan) makeUnits() {
	thresholds := make([][]int32, len(p.views))
	p.splits(func(n *node) { thresholds[n.view] = append(thresholds[n.view], thresholdKey(n.threshold)) })
	var rank ranker
	p.units, rank = unitsOf(thresholds)
	p.splits(func(n *node) { n.unit, n.rank = rank(n.view, n.threshold) })
}

// ranker gives the unit of a threshold of the list of that number, and its place there.
type ranker func(list int32, threshold float32) (unit int32, rank uint8)

// unitsOf makes units of lists of the keys of thresholds, which it sorts: integers are compared without a
// thought for NaN.
func unitsOf(lists [][]int32) ([]unit, ranker) {
	var units []unit
	first := make([]int32, len(lists))
	for i, t := range lists {
		slices.Sort(t)
		t = slices.Compact(t)
		lists[i] = t
		first[i] = int32(len(units))
		for part := range slices.Chunk(t, maxRank) {
			u := unit{view: int32(i), thresholds: make([]float32, len(part))}
			for j, key := range part {
				u.thresholds[j] = floatOf(key)
			}
			units = append(units, u)
		}
	}
	return units, func(list int32, threshold float32) (int32, uint8) {
		at := place(lists[list], thresholdKey(threshold))
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

// place is where a key that is among the ascending keys stands. It halves without a branch that could be predicted wrongly:
// a model has some hundred thousand keys to look up.
func place(keys []int32, key int32) int {
	at := 0
	for n := len(keys); n > 1; {
		half := n / 2
		next := at
		if keys[at+half] <= key {
			next = at + half
		}
		at, n = next, n-half
	}
	return at
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

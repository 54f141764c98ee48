// Package shap tells what each feature of a row has contributed to the margins of a tree ensemble: the exact Shapley values
// that XGBoost and LightGBM give as pred_contribs and pred_contrib ("path-dependent TreeSHAP", Lundberg and others, 2018).
//
// # What is computed
//
// A tree is asked for its expectation when only the features of a set S are known: a split by one of S goes where the row
// goes, any other both ways, each weighed by the share of the training data that went there (its cover). The contribution of
// a feature is its share of the difference between knowing all features and none, by Shapley's rule.
//
// # How it is fast
//
// For one leaf of value v, below splits by the features i = 1 to d, let z(i) be the product of the shares on the way there at
// i's splits, and o(i) be 1 if the row goes there at all of them, else 0. Knowing S, the leaf counts v times the product of
// o(i) over S and z(i) over the others, and Shapley's weight of a set of k among d-1, k!(d-1-k)!/d!, is the integral of
// t^k (1-t)^(d-1-k) from 0 to 1. So the sum over all sets is a product under an integral:
//
//	contribution of i  =  v (o(i) - z(i))  ∫ ∏ over j ≠ i of (t o(j) + (1-t) z(j)) dt
//
// The integrand is a polynomial of degree d-1, and Gauss and Legendre's rule with d/2 points gives its integral exactly. At a
// point, the products of all leaves below a node share their factors down to it, so one walk through the tree multiplies them on
// the way down, adds the leaves up on the way back, and takes one feature's factor out at each split: a handful of
// multiplications a node, where the published algorithm takes some for each pair of features above each leaf. Where a feature is
// split by again, the leaves below have another o and z for it; the walk gives them their part and takes back what the split
// above would have given them. Four points are walked at once, which is enough for up to eight features on the way to a leaf;
// trees with more are walked once for each four points.
//
// # What is remembered
//
// What the leaves of a part of a tree, a node with all below it, give to the contributions depends on a few bits of a row: of each
// feature on the way to the part, whether the row goes there, and of each split in the part, to which side. Where these are at
// most eight, New walks the part once for each pattern of them and keeps what comes of it; a row then only asks each split, and
// adds up one line of the table of each part, which holds a handful of leaves. That takes a sixth of the time, and some 700 bytes
// of memory a node. What lies deeper, and what is beyond the memory that tables may take, is walked with each row.
package shap

import (
	"fmt"
	"math"

	"github.com/picket-ml/picket/internal/ensemble"
)

// Explainer is an ensemble that can be explained. It is immutable; any number of goroutines may use it, each with a
// [Workspace] of its own.
type Explainer struct {
	features, groups int
	bias             []float64 // per group: the base margin and the expectation of its trees
	nodes            int       // of all trees
	roots            []int32   // which of them are roots
	splits           []split   // of all trees
	parts            []part    // of all trees
	lines            []line    // of all parts
	walked           []tree    // those with leaves in no part
}

// split is where a row goes one way or the other. Nodes are numbered through all trees.
type split struct {
	left, right, above int32
	feature            int32
	bound              float32        // what is not at least as much goes left; not used where tree is set
	missing            uint8          // 1 if rows without a value go left, else 0
	tree               *ensemble.Tree // where more must be looked at than a bound: what knows of node where rows go
	node               *ensemble.Node
}

// tree is a tree with what is known of its nodes before any row is.
type tree struct {
	group, first int // what it adds to, and which of the nodes of all trees is its root
	*ensemble.Tree
	splits  []int32   // the nodes that are some, each after those above it
	leaves  []float64 // by node: the value as it is added
	parents []int32   // by node
	above   []int32   // by node: the nearest one above, itself not, that a split by the same feature leads to; the root, where all rows go, for none
	shares  []float64 // by node: the share of its cover, of all that above leads to
	points  []points  // the same for all trees of as many points
	// factors are those of points[0] for all nodes, then those of points[1] and so on.
	factors []factors
	skip    []bool // by node: it is a part's, which the walk leaves out
	walked  bool   // there are leaves in no part, so that it is walked with each row
}

// quad is a value at four points.
type quad struct{ a, b, c, d float64 }

func (x quad) times(y quad) quad        { return quad{x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d} }
func (x quad) scaled(s float64) quad    { return quad{x.a * s, x.b * s, x.c * s, x.d * s} }
func (x quad) plus(y quad) quad         { return quad{x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d} }
func (x quad) dot(y quad) float64       { return x.a*y.a + x.b*y.b + (x.c*y.c + x.d*y.d) }
func quadOf(f func(i int) float64) quad { return quad{f(0), f(1), f(2), f(3)} }

// points are four points between 0 and 1 at which integrands are looked at.
type points struct {
	t, weight [4]float64
	// without takes the factor of a feature out whose o is 0, times o - z and the weight: -weight/(1-t).
	without quad
}

// factors are what the way to a node multiplies with, at four points.
type factors struct {
	with    quad // where the row goes there: t + (1-t) z, over the same of the node above
	without quad // where it does not, but goes to the node above: (1-t) z over the other's factor
	out     quad // takes the factor out, times o - z and the weight, where the row goes there
}

// maxFeatures is how many features there may be on the way to a leaf; for more, the points lie closer together than is of use.
const maxFeatures = 512

// New makes an Explainer of e, whose trees it may keep. It fails where the shares of the training data are not in the model: in
// ONNX files, in files that were written without, and where a split has a side that no training data went to.
func New(e *ensemble.Ensemble) (*Explainer, error) { return newExplainer(e, maxLines) }

// newExplainer is New with so many lines at most.
func newExplainer(e *ensemble.Ensemble, lines int) (*Explainer, error) {
	if e.Library == ensemble.ONNX {
		return nil, fmt.Errorf("contributions of features take the model file of XGBoost or LightGBM: ONNX files do not say how much of the training data went through each node")
	}
	x := &Explainer{features: e.NumFeature, groups: e.Groups, bias: make([]float64, e.Groups)}
	for g := range x.bias {
		x.bias[g] = float64(e.BaseMargin[g])
	}
	rules := map[int][]points{}
	trees, m := make([]tree, len(e.Trees)), memory{most: lines}
	for i := range e.Trees {
		t, err := newTree(&e.Trees[i], x.nodes, e.Wide(), rules)
		if err != nil {
			return nil, fmt.Errorf("contributions of features: tree %d: %w", i, err)
		}
		x.bias[t.group] += t.expectation(0, 1)
		for _, s := range t.splits {
			x.splits = append(x.splits, t.split(&t.Nodes[s]))
		}
		x.roots = append(x.roots, int32(x.nodes))
		x.nodes += len(t.Nodes)
		trees[i] = t
		m.cut(&trees[i], 0, nil)
	}
	x.remember(&m)
	for i := range trees {
		if trees[i].walked {
			x.walked = append(x.walked, trees[i])
		}
	}
	return x, nil
}

// Size is how many values a row's contributions are: for each group, one for each feature and the bias.
func (x *Explainer) Size() int { return x.groups * (x.features + 1) }

// newTree prepares a tree whose root is that of all nodes. rules are the points by how many quads there are of them, to be shared.
func newTree(from *ensemble.Tree, first int, wide bool, rules map[int][]points) (tree, error) {
	n := len(from.Nodes)
	t := tree{group: from.Group, first: first, Tree: from, leaves: make([]float64, n), above: make([]int32, n), shares: make([]float64, n), parents: make([]int32, n), skip: make([]bool, n)}
	t.order()
	for i := range from.Nodes {
		t.leaves[i] = from.Nodes[i].Value
		if !wide {
			t.leaves[i] = float64(float32(from.Nodes[i].Value) * from.Scale)
		}
	}
	most, err := t.measure()
	if err != nil {
		return t, err
	}
	quads := (most + 7) / 8
	if rules[quads] == nil {
		rules[quads] = rule(quads)
	}
	t.points = rules[quads]
	t.factors = make([]factors, quads*n)
	t.eachChild(func(parent, child int32) {
		for q := range t.points {
			t.factors[q*n+int(child)] = t.factorsOf(child, &t.points[q])
		}
	})
	return t, nil
}

// order fills splits with those that are reached.
func (t *tree) order() {
	for stack := []int32{0}; len(stack) > 0; {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n := &t.Nodes[i]; n.Op != ensemble.Leaf {
			t.splits = append(t.splits, i)
			stack = append(stack, n.Right, n.Left)
		}
	}
}

// eachChild calls f for the nodes below the root that are reached, each after the one above it.
func (t *tree) eachChild(f func(parent, child int32)) {
	for _, i := range t.splits {
		f(i, t.Nodes[i].Left)
		f(i, t.Nodes[i].Right)
	}
}

// measure fills parents, above and shares, and tells how many features there are at most on the way to a leaf.
func (t *tree) measure() (most int, err error) {
	features := make([]int, len(t.Nodes)) // on the way to the node
	t.shares[0] = 1
	t.eachChild(func(parent, child int32) {
		p, c := &t.Nodes[parent], &t.Nodes[child]
		share := float64(c.Cover) / float64(p.Cover)
		if !(share > 0 && share < math.MaxFloat64) && err == nil {
			err = fmt.Errorf("the file says that %v of the %v of the training data at node %d went to node %d; there is no contribution without a share of it",
				c.Cover, p.Cover, parent, child)
		}
		t.parents[child] = parent
		above := parent
		for above > 0 && t.feature(above) != p.Feature {
			above = t.parents[above]
		}
		t.above[child] = above
		share *= t.shares[above]
		features[child] = features[parent]
		if above == 0 {
			features[child]++
		}
		t.shares[child] = share
		if share < minShare && err == nil {
			err = fmt.Errorf("only %g of the training data went to node %d", share, child)
		}
		most = max(most, features[child])
	})
	if most > maxFeatures && err == nil {
		err = fmt.Errorf("there are %d features on the way to a leaf, and at most %d can be told apart", most, maxFeatures)
	}
	return most, err
}

// minShare keeps what is divided by away from what is no number any more. No training data comes near it.
const minShare = 1e-200

// number is that of a node among those of all trees.
func (t *tree) number(node int32) int32 { return int32(t.first) + node }

// split is node n of the tree.
func (t *tree) split(n *ensemble.Node) split {
	s := split{left: t.number(n.Left), right: t.number(n.Right), above: t.number(t.above[n.Left]), feature: n.Feature}
	switch {
	case n.Missing == ensemble.MissingZero:
		s.tree, s.node = t.Tree, n
	case n.Op == ensemble.Less:
		s.bound = float32(n.Value)
	case n.Op == ensemble.LessEqual:
		s.bound = ensemble.Above(n.Value)
	default:
		s.tree, s.node = t.Tree, n
	}
	s.missing = bit(t.GoesLeft(n, float32(math.NaN())))
	return s
}

// feature is the one by which a split leads to a node, which is not the root.
func (t *tree) feature(child int32) int32 { return t.Nodes[t.parents[child]].Feature }

func (t *tree) factorsOf(i int32, p *points) factors {
	z, above := t.shares[i], t.above[i]
	over := func(k int) float64 { return p.t[k] + (1-p.t[k])*t.shares[above] }
	return factors{
		with:    quadOf(func(k int) float64 { return (p.t[k] + (1-p.t[k])*z) / over(k) }),
		without: quadOf(func(k int) float64 { return (1 - p.t[k]) * z / over(k) }),
		out:     quadOf(func(k int) float64 { return p.weight[k] * (1 - z) / (p.t[k] + (1-p.t[k])*z) }),
	}
}

// expectation is that of the leaves below node i, which has a share of the training data.
func (t *tree) expectation(i int32, share float64) float64 {
	n := &t.Nodes[i]
	if n.Op == ensemble.Leaf {
		return share * t.leaves[i]
	}
	of := func(child int32) float64 {
		return t.expectation(child, share*float64(t.Nodes[child].Cover)/float64(n.Cover))
	}
	return of(n.Left) + of(n.Right)
}

// rule is Gauss and Legendre's with 4*quads points, from 0 to 1.
func rule(quads int) []points {
	n := 4 * quads
	out := make([]points, quads)
	for i := range n {
		// Newton's method, from where the roots lie asymptotically.
		x, slope := math.Cos(math.Pi*(float64(i)+0.75)/(float64(n)+0.5)), 0.0
		for range 100 {
			p, before := 1.0, 0.0
			for k := range n {
				p, before = (float64(2*k+1)*x*p-float64(k)*before)/float64(k+1), p
			}
			slope = float64(n) * (x*p - before) / (x*x - 1)
			step := p / slope
			x -= step
			if math.Abs(step) < 1e-16 {
				break
			}
		}
		p := &out[i/4]
		p.t[i%4], p.weight[i%4] = (1+x)/2, 1/((1-x*x)*slope*slope)
	}
	for q := range out {
		p := &out[q]
		p.without = quadOf(func(k int) float64 { return -p.weight[k] / (1 - p.t[k]) })
	}
	return out
}

// Workspace is the memory that explaining rows takes, of one goroutine at a time.
type Workspace struct {
	goes []uint8 // by node of all trees: 1 if the row goes there by its feature, which is about no other feature, else 0; and a 0
	at   []int32 // by part: its line
	out  []float64
}

// NewWorkspace allocates one.
func (x *Explainer) NewWorkspace() *Workspace {
	w := &Workspace{goes: make([]uint8, x.nodes+1), at: make([]int32, len(x.parts)), out: make([]float64, x.Size()+maxBits)}
	for _, root := range x.roots {
		w.goes[root] = 1
	}
	return w
}

// Row writes the contributions of the values of a row to its margins: for each group one for each feature, then the bias.
// Their sum is the margin, within the precision of float32. It allocates nothing.
func (x *Explainer) Row(w *Workspace, row, out []float32) {
	clear(w.out)
	x.ask(row, w.goes)
	x.recall(w)
	for i := range x.walked {
		t := &x.walked[i]
		t.walk(w.goes[t.first:], w.out[t.group*(x.features+1):], t.skip)
	}
	for g, bias := range x.bias {
		w.out[g*(x.features+1)+x.features] = bias
	}
	for i := range out {
		out[i] = float32(w.out[i])
	}
}

// ask finds out to which nodes a row goes.
func (x *Explainer) ask(row []float32, goes []uint8) {
	for i := range x.splits {
		s := &x.splits[i]
		v := row[s.feature]
		left := bit(!(v >= s.bound)) & (bit(v == v) | s.missing) // without a branch that half of the rows would take
		if s.tree != nil {
			left = bit(s.tree.GoesLeft(s.node, v))
		}
		s.turn(goes, left)
	}
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// turn notes to which side of the split a row goes: to the left if left is 1.
func (s *split) turn(goes []uint8, left uint8) {
	before := goes[s.above]
	goes[s.left], goes[s.right] = left&before, (left^1)&before
}

// walk adds the contributions of a row to out, but for those of what is to be skipped.
func (t *tree) walk(goes []uint8, out []float64, skip []bool) {
	for q := range t.points {
		w := walk{tree: t, points: &t.points[q], factors: t.factors[q*len(t.Nodes):], goes: goes, out: out, skip: skip}
		w.sum(0, quad{1, 1, 1, 1})
	}
}

// walk is a row on its way through a tree.
type walk struct {
	*tree
	points  *points
	factors []factors
	goes    []uint8
	out     []float64
	skip    []bool
}

// sum is that of the leaves below node i, each times its factors; the way to i has those in product.
func (w *walk) sum(i int32, product quad) quad {
	n := &w.Nodes[i]
	switch {
	case w.skip[i]:
		return quad{}
	case n.Op == ensemble.Leaf:
		return product.scaled(w.leaves[i])
	}
	return w.to(n.Left, n.Feature, product).plus(w.to(n.Right, n.Feature, product))
}

// to is sum for a child of a split. It adds the feature's contributions to the leaves below.
func (w *walk) to(i, feature int32, product quad) quad {
	f := &w.factors[i]
	above := w.above[i]
	if w.goes[above] == 0 {
		// The row goes elsewhere at the split above already: all that the feature contributes is counted there.
		return w.sum(i, product.scaled(w.shares[i]/w.shares[above]))
	}
	out := w.points.without
	if w.goes[i] == 1 {
		product, out = product.times(f.with), f.out
	} else {
		product = product.times(f.without)
	}
	sum := w.sum(i, product)
	contribution := sum.dot(out)
	if above > 0 {
		contribution -= sum.dot(w.factors[above].out)
	}
	w.out[feature] += contribution
	return sum
}

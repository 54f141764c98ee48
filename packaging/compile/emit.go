package compile

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/internal/ensemble"
)

// sumType is the C type in which leaf values of e are added.
func sumType(e *ensemble.Ensemble) string {
	if e.Wide() {
		return "double"
	}
	return "float"
}

// literal writes v, exactly, as a C constant of the type of e's sums.
func literal(e *ensemble.Ensemble, v float64) string {
	suffix := "f"
	if sumType(e) == "double" {
		suffix = ""
	}
	if math.IsInf(v, 0) {
		s := "__builtin_inf" + suffix + "()"
		if v < 0 {
			s = "-" + s
		}
		return s
	}
	return strconv.FormatFloat(v, 'x', -1, 64) + suffix
}

// leaf is the value that leaf n of t adds. XGBoost rounds the product with dart's weight to float32 before it adds.
func (p *plan) leaf(t *ensemble.Tree, n int32) float64 {
	v := t.Nodes[n].Value
	if p.e.Library == ensemble.XGBoost {
		return float64(float32(float32(v) * t.Scale))
	}
	return v
}

// source writes the C of unit i.
func (p *plan) source(i int) []byte {
	b := &bytes.Buffer{}
	u, sum := p.units[i], sumType(p.e)
	b.WriteString("#include <stdint.h>\n")
	for _, i := range u.trees {
		w := newWriter(p, i)
		w.walk(0)
		if len(w.table) > 0 {
			fmt.Fprintf(b, "static const %s table%d[%d] = {%s};\n", sum, i, len(w.table), strings.Join(w.table, ", "))
		}
		b.Write(w.parts.Bytes())
		w.function(b, "", w.body)
	}
	fmt.Fprintf(b, "%s {\n", p.prototype(i))
	for _, t := range u.trees {
		fmt.Fprintf(b, "s = tree%d(k, s);\n", t)
	}
	b.WriteString("return s;\n}\n")
	return b.Bytes()
}

func (p *plan) prototype(i int) string {
	sum := sumType(p.e)
	return fmt.Sprintf("__attribute__((visibility(\"hidden\"))) %s unit%d(const int32_t *k, %s s)", sum, i, sum)
}

// test is the C condition under which split n sends a row left.
func (p *plan) test(n *ensemble.Node) string {
	return fmt.Sprintf("k[%d] < %d", p.slot(n), bound(n))
}

// partNodes is the size from which subtrees become functions of their own. Compilers take more than twice the time for
// a function of twice the size.
const partNodes = 1024

// writer writes one tree.
type writer struct {
	*plan
	tree  int // its index in the ensemble
	t     *ensemble.Tree
	size  []int         // nodes of the subtree at each node
	whole bool          // outside of any part, in a tree that is large enough to have parts
	body  *bytes.Buffer // of the function being written
	parts bytes.Buffer  // functions that are complete
	table []string      // the leaves of all subtrees without branches; one array, because compilers are slow with many
}

func newWriter(p *plan, tree int) *writer {
	w := &writer{plan: p, tree: tree, t: &p.e.Trees[tree], body: &bytes.Buffer{}}
	if len(w.t.Nodes) > partNodes {
		w.whole, w.size = true, make([]int, len(w.t.Nodes))
		w.measure(0)
	}
	return w
}

// measure fills in the sizes of the subtrees from node i down.
func (w *writer) measure(i int32) int {
	n := &w.t.Nodes[i]
	w.size[i] = 1
	if n.Op != ensemble.Leaf {
		w.size[i] += w.measure(n.Left) + w.measure(n.Right)
	}
	return w.size[i]
}

// function writes the function of a tree, or of the part of it that suffix names.
func (w *writer) function(b *bytes.Buffer, suffix string, body *bytes.Buffer) {
	sum := sumType(w.e)
	fmt.Fprintf(b, "static __attribute__((noinline)) %s tree%d%s(const int32_t *k, %s s) {\n%s}\n", sum, w.tree, suffix, sum, body.Bytes())
}

// part writes the subtree at node i as a function of its own and, where it stood, a call.
func (w *writer) part(i int32) {
	suffix := fmt.Sprintf("_%d", i)
	fmt.Fprintf(w.body, "return tree%d%s(k, s);\n", w.tree, suffix)
	outer := w.body
	w.body, w.whole = &bytes.Buffer{}, false
	w.walk(i)
	w.function(&w.parts, suffix, w.body)
	w.body, w.whole = outer, true
}

// walk writes the subtree at node i. Flat, with jumps, so that the depth of a tree is no nesting in C.
func (w *writer) walk(i int32) {
	n := &w.t.Nodes[i]
	if n.Op == ensemble.Leaf {
		fmt.Fprintf(w.body, "return s + %s;\n", literal(w.e, w.leaf(w.t, i)))
		return
	}
	if height(w.t, i, 3) <= 2 {
		w.lookup(i)
		return
	}
	if w.whole && w.size[i] <= partNodes {
		w.part(i)
		return
	}
	left, right := &w.t.Nodes[n.Left], &w.t.Nodes[n.Right]
	near, far, jump := n.Left, n.Right, "!("+w.test(n)+")"
	if right.Cover > left.Cover {
		near, far, jump = n.Right, n.Left, w.test(n)
	}
	if left.Cover != right.Cover { // equal covers are most often absent ones
		jump = "__builtin_expect(" + jump + ", 0)"
	}
	fmt.Fprintf(w.body, "if (%s) goto n%d;\n", jump, far)
	w.walk(near)
	fmt.Fprintf(w.body, "n%d:;\n", far)
	w.walk(far)
}

// height is how many splits lie on the longest way from node i to a leaf, counted no further than most.
func height(t *ensemble.Tree, i int32, most int) int {
	n := &t.Nodes[i]
	if n.Op == ensemble.Leaf || most == 0 {
		return 0
	}
	return 1 + max(height(t, n.Left, most-1), height(t, n.Right, most-1))
}

// lookup writes a subtree of at most two levels without branches: the outcomes of its one to three tests are the index
// into a stretch of the tree's table of leaf values.
func (w *writer) lookup(root int32) {
	splits := []int32{root}
	for _, child := range [2]int32{w.t.Nodes[root].Left, w.t.Nodes[root].Right} {
		if w.t.Nodes[child].Op != ensemble.Leaf {
			splits = append(splits, child)
		}
	}
	fmt.Fprintf(w.body, "return s + table%d[%d", w.tree, len(w.table))
	for j, s := range splits {
		fmt.Fprintf(w.body, " + (%s) * %d", w.test(&w.t.Nodes[s]), 1<<(len(splits)-1-j))
	}
	w.body.WriteString("];\n")
	for outcomes := range 1 << len(splits) {
		// The first split is the highest bit; a set bit means left. Parents come before their children.
		at := root
		for j, s := range splits {
			switch {
			case at != s:
			case outcomes>>(len(splits)-1-j)&1 == 1:
				at = w.t.Nodes[s].Left
			default:
				at = w.t.Nodes[s].Right
			}
		}
		w.table = append(w.table, literal(w.e, w.leaf(w.t, at)))
	}
}

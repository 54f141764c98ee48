package compile

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"github.com/picket-ml/picket/internal/ensemble"
)

// sumType is the C type in which the library of e adds leaf values.
func sumType(e *ensemble.Ensemble) string {
	if e.Library == ensemble.LightGBM {
		return "double"
	}
	return "float"
}

// literal writes v, exactly, as a C constant of the sum's type.
func (p *plan) literal(v float64) string {
	suffix := "f"
	if sumType(p.e) == "double" {
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
	for _, t := range u.trees {
		fmt.Fprintf(b, "static __attribute__((noinline)) %s tree%d(const int32_t *k, %s s) {\n", sum, t, sum)
		p.walk(b, &p.e.Trees[t], 0)
		b.WriteString("}\n")
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

// walk writes the subtree at node i of t. Flat, with jumps, so that the depth of a tree is no nesting in C.
func (p *plan) walk(b *bytes.Buffer, t *ensemble.Tree, i int32) {
	n := &t.Nodes[i]
	if n.Op == ensemble.Leaf {
		fmt.Fprintf(b, "return s + %s;\n", p.literal(p.leaf(t, i)))
		return
	}
	if height(t, i, 3) <= 2 {
		p.table(b, t, i)
		return
	}
	left, right := &t.Nodes[n.Left], &t.Nodes[n.Right]
	near, far, jump := n.Left, n.Right, "!("+p.test(n)+")"
	if right.Cover > left.Cover {
		near, far, jump = n.Right, n.Left, p.test(n)
	}
	if left.Cover != right.Cover { // equal covers are most often absent ones
		jump = "__builtin_expect(" + jump + ", 0)"
	}
	fmt.Fprintf(b, "if (%s) goto n%d;\n", jump, far)
	p.walk(b, t, near)
	fmt.Fprintf(b, "n%d:;\n", far)
	p.walk(b, t, far)
}

// height is how many splits lie on the longest way from node i to a leaf, or some number of at least most.
func height(t *ensemble.Tree, i int32, most int) int {
	n := &t.Nodes[i]
	if n.Op == ensemble.Leaf || most == 0 {
		return 0
	}
	return 1 + max(height(t, n.Left, most-1), height(t, n.Right, most-1))
}

// table writes a subtree of at most two levels without branches: the outcomes of its one to three tests are the index
// into a table of leaf values.
func (p *plan) table(b *bytes.Buffer, t *ensemble.Tree, root int32) {
	splits := []int32{root}
	for _, child := range [2]int32{t.Nodes[root].Left, t.Nodes[root].Right} {
		if t.Nodes[child].Op != ensemble.Leaf {
			splits = append(splits, child)
		}
	}
	fmt.Fprintf(b, "{ static const %s v[%d] = {", sumType(p.e), 1<<len(splits))
	for outcomes := range 1 << len(splits) {
		// The first split is the highest bit; a set bit means left.
		at := root
		for j, s := range splits {
			if at != s {
				continue
			}
			if outcomes>>(len(splits)-1-j)&1 == 1 {
				at = t.Nodes[s].Left
			} else {
				at = t.Nodes[s].Right
			}
		}
		if outcomes > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.literal(p.leaf(t, at)))
	}
	b.WriteString("};\nreturn s + v[")
	for j, s := range splits {
		if j > 0 {
			b.WriteString(" + ")
		}
		fmt.Fprintf(b, "(%s) * %d", p.test(&t.Nodes[s]), 1<<(len(splits)-1-j))
	}
	b.WriteString("]; }\n")
}

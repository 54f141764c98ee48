package shap

import (
	"slices"

	"github.com/picket-ml/picket/internal/ensemble"
)

// maxBits is how many bits of a row a part may depend on, and so how many features its leaves may contribute to: with eight, a
// line of its table has the size of a line of the processor's cache.
const maxBits = 8

// maxLines is how many lines all tables of an Explainer may have: 64 MiB, which 500 full trees of depth 6 take. They are computed in about half a second.
const maxLines = 1 << 20

// line is what the leaves of a part contribute to its features, for one pattern of its bits.
type line [maxBits]float64

// part is a node with all below it, of which is remembered what its leaves contribute.
type part struct {
	bits [maxBits]int32 // nodes of all trees: whether the row goes there is a bit of the number of the line; of those that are not needed, the last
	outs [maxBits]int32 // where what is in a line is added; of what is not needed, past the contributions
	line int32          // the first
}

// recall adds what all parts contribute. First it finds out which lines these are, so that all that are not in a cache are
// on their way at once.
func (x *Explainer) recall(w *Workspace) {
	goes, at, out := w.goes, w.at[:len(x.parts)], w.out
	for i := range x.parts {
		p := &x.parts[i]
		b := &p.bits
		at[i] = p.line + int32(goes[b[0]]|goes[b[1]]<<1|goes[b[2]]<<2|goes[b[3]]<<3|goes[b[4]]<<4|goes[b[5]]<<5|goes[b[6]]<<6|goes[b[7]]<<7)
	}
	for i := range x.parts {
		p, l := &x.parts[i], &x.lines[at[i]]
		o := &p.outs
		out[o[0]] += l[0]
		out[o[1]] += l[1]
		out[o[2]] += l[2]
		out[o[3]] += l[3]
		out[o[4]] += l[4]
		out[o[5]] += l[5]
		out[o[6]] += l[6]
		out[o[7]] += l[7]
	}
}

// memory is the parts that are to be remembered.
type memory struct {
	most  int // lines that there may be
	lines int // of those found
	found []found
}

// found is a part whose lines are still to be computed.
type found struct {
	tree   *tree
	node   int32
	way    []int32 // the last node of each feature on the way to it
	splits []int32 // those at and below it, each after those above it
}

// cut makes node i of a tree a part if it can be one, else its children. way has the last node of each feature on the way to it.
func (m *memory) cut(t *tree, i int32, way []int32) {
	n := &t.Nodes[i]
	splits, fits := t.below(nil, i, maxBits-len(way))
	bits := len(way) + len(splits)
	switch {
	case fits && bits == 0: // the tree has one leaf, which no feature contributes to
	case fits && m.lines+1<<bits <= m.most:
		m.lines += 1 << bits
		m.found = append(m.found, found{t, i, way, splits})
		t.skip[i] = true
	case n.Op == ensemble.Leaf || len(way) > maxBits:
		t.walked = true
	default:
		m.cut(t, n.Left, t.and(way, n.Left))
		m.cut(t, n.Right, t.and(way, n.Right))
	}
}

// and is the way to a node that is the next one on it.
func (t *tree) and(way []int32, next int32) []int32 {
	same := func(n int32) bool { return t.feature(n) == t.feature(next) }
	return append(slices.DeleteFunc(slices.Clone(way), same), next)
}

// below appends the splits at and below node i, each after those above it; fits says that they are at most so many.
func (t *tree) below(splits []int32, i int32, most int) (_ []int32, fits bool) {
	n := &t.Nodes[i]
	if n.Op == ensemble.Leaf {
		return splits, len(splits) <= most
	}
	if splits = append(splits, i); len(splits) > most {
		return splits, false
	}
	if splits, fits = t.below(splits, n.Left, most); !fits {
		return splits, false
	}
	return t.below(splits, n.Right, most)
}

// remember makes the parts that were found, and computes their lines: each part is walked once for each pattern of its bits.
func (x *Explainer) remember(m *memory) {
	x.parts, x.lines = make([]part, len(m.found)), make([]line, m.lines)
	goes, out := make([]uint8, x.nodes), make([]float64, x.features)
	goes[0] = 1
	skip := make([]bool, x.nodes)
	for i := range skip {
		skip[i] = i > 0
	}
	first := 0
	for i := range m.found {
		f := &m.found[i]
		p, features := x.part(f, first)
		x.parts[i] = p
		lines := x.lines[first : first+1<<(len(f.way)+len(f.splits))]
		first += len(lines)
		f.show(skip, true)
		for pattern := range lines {
			f.set(goes, pattern)
			clear(out)
			f.tree.walk(goes, out, skip)
			for k, of := range features {
				lines[pattern][k] = out[of]
			}
		}
		f.show(skip, false)
	}
}

// part is what was found, with lines from the first on, and the features that they contribute to.
func (x *Explainer) part(f *found, first int) (p part, features []int32) {
	t, bits := f.tree, slices.Clone(f.way)
	for _, s := range f.splits {
		bits = append(bits, t.Nodes[s].Left)
	}
	for _, n := range bits {
		if of := t.feature(n); !slices.Contains(features, of) {
			features = append(features, of)
		}
	}
	p.line = int32(first)
	for k := range maxBits {
		p.bits[k], p.outs[k] = int32(x.nodes), int32(x.Size()+k)
		if k < len(bits) {
			p.bits[k] = t.number(bits[k])
		}
		if k < len(features) {
			p.outs[k] = int32(t.group*(x.features+1)) + features[k]
		}
	}
	return p, features
}

// set has a row go where a pattern of the bits says. Where it goes elsewhere by a feature on the way, it does so at the first split.
func (f *found) set(goes []uint8, pattern int) {
	t := f.tree
	for n := f.node; n > 0; n = t.parents[n] {
		for k, last := range f.way {
			if t.feature(last) == t.feature(n) {
				goes[n] = uint8(pattern >> k & 1)
			}
		}
	}
	for k, i := range f.splits {
		n := &t.Nodes[i]
		s := split{left: n.Left, right: n.Right, above: t.above[n.Left]}
		s.turn(goes, uint8(pattern>>(len(f.way)+k)&1))
	}
}

// show has a walk pass through the part and the way to it, or not.
func (f *found) show(skip []bool, passes bool) {
	t := f.tree
	for n := f.node; n > 0; n = t.parents[n] {
		skip[n] = !passes
	}
	for _, i := range f.splits {
		skip[t.Nodes[i].Left], skip[t.Nodes[i].Right] = !passes, !passes
	}
}

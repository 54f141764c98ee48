//go:build cgo && linux

package forest

import "slices"

// sliceTables are the slice layout for registers of width bytes, 0 where the model has none; see forest.h.
type sliceTables struct {
	width, masks, reach                                        int
	unitFirst, unitRight, right, trees, mask, side, to, leaves offset
}

// Bounds on the working memory of the slice layout, beyond which it would not be the fastest anyway.
const (
	maxMaskBytes  = 16 << 20
	maxReachBytes = 8 << 20
)

// slicer makes the slice layout.
type slicer struct {
	*plan
	width      int
	first      []int // of each unit: its first line of masks
	rightOf    []int // of each unit, for 256 ranks: the lines of those that are needed with missing values going right, else 0
	heads      []uint32
	mask, side []uint32
	to         []uint32
	leaves     []byte
}

func (p *plan) laySlices(a *arena, width int) sliceTables {
	t := sliceTables{width: width}
	s := slicer{plan: p, width: width}
	unitRight, right := s.lines(&t)
	for i := range p.trees {
		tree := &p.trees[i]
		switch {
		case tree.depth <= shallow && tree.full():
		case tree.full():
			t.reach = max(t.reach, reachLines(1<<(tree.depth-shallow)))
		default:
			t.reach = max(t.reach, reachLines(tree.leaves))
		}
	}
	if p.sets || len(p.units) == 0 || t.masks*width > maxMaskBytes || t.reach*width > maxReachBytes || p.groups > 256 {
		return sliceTables{}
	}
	nodes := 2 * len(p.leaves) // about as many
	s.mask, s.side, s.leaves = make([]uint32, 0, nodes), make([]uint32, 0, nodes), make([]byte, 0, (len(p.leaves)+64)*p.leafBytes())
	for i := range p.trees {
		s.lay(&p.trees[i])
	}
	t.unitFirst, t.unitRight, t.right = a.u32(u32s(s.first)), a.u32(unitRight), a.u32(right)
	t.trees, t.mask, t.side, t.to, t.leaves = a.u32(s.heads), a.u32(s.mask), a.u32(s.side), a.u32(s.to), a.bytes(s.leaves)
	return t
}

// lines gives every unit its lines of masks: one for each rank, from 0 on, and one more for each rank that some node wants
// with missing values going right.
func (s *slicer) lines(t *sliceTables) (unitRight, right []uint32) {
	s.rightOf = make([]int, len(s.units)*ranks)
	s.splits(func(n *node) {
		if n.right {
			s.rightOf[int(n.unit)*ranks+int(n.rank)] = 1
		}
	})
	for u := range s.units {
		s.first = append(s.first, t.masks)
		t.masks += len(s.units[u].thresholds) + 1
		unitRight = append(unitRight, uint32(len(right)))
		for rank, wanted := range s.rightOf[u*ranks : (u+1)*ranks] {
			if wanted == 0 {
				continue
			}
			right = append(right, uint32(rank*s.width))
			s.rightOf[u*ranks+rank] = t.masks
			t.masks++
		}
	}
	return append(unitRight, uint32(len(right))), right
}

// add adds a node: the masks of a split, anything for a leaf, whose exits are the same.
func (s *slicer) add(n *node) {
	mask, side := 0, 0
	if n.leaf < 0 {
		mask = s.first[n.unit] + int(n.rank)
		side = mask
		if n.right {
			side = s.rightOf[int(n.unit)*ranks+int(n.rank)]
		}
	}
	s.mask, s.side = append(s.mask, uint32(mask*s.width)), append(s.side, uint32(side*s.width))
}

func (s *slicer) lay(tree *tree) {
	first, to, table := uint32(len(s.mask)), uint32(len(s.to)), uint32(len(s.leaves)/64)
	depth, lines, threes, ones := 0, tree.leaves, 0, 0
	switch {
	case tree.depth <= shallow && tree.full():
		depth, lines = max(tree.depth, 3), 1
		s.complete(tree, 0, depth)
	case tree.full():
		// The top becomes a tree of its own, complete, with complete trees below it.
		depth = shallow
		top, below := tree.top(tree.depth - shallow)
		lines = len(below)
		threes, ones = s.boundaries(top)
		for _, at := range below {
			s.complete(tree, at, shallow)
		}
	default:
		threes, ones = s.boundaries(tree)
		var ends []int32
		tree.leftToRight(func(at int32) { ends = append(ends, at) })
		for part := range slices.Chunk(ends, 64) {
			s.leaves = s.leafTable(s.leaves, tree, part)
		}
	}
	s.heads = append(s.heads, uint32(depth), uint32(lines), uint32(threes), uint32(ones), first, to, table, uint32(tree.group))
}

// complete adds the nodes of the levels from a node on, and the leaves below.
func (s *slicer) complete(tree *tree, from int32, depth int) {
	var heap [2 << shallow]int32
	heap[0] = from
	for j := range 1<<depth - 1 {
		n := &tree.nodes[heap[j]]
		s.add(n)
		heap[2*j+1], heap[2*j+2] = n.left, n.left
		if n.leaf < 0 {
			heap[2*j+2]++
		}
	}
	s.leaves = s.leafTable(s.leaves, tree, heap[1<<depth-1:2<<depth-1])
}

// boundaries adds the splits of a tree with the lines of reach that they look at and write: line k is about the leaves
// from the k-th on.
func (s *slicer) boundaries(tree *tree) (threes, ones int) {
	type span struct{ low, high, own uint32 } // the leaves of a node, and where its right child's begin
	spans := make([]span, len(tree.nodes))
	spans[0].high = uint32(tree.leaves)
	for i, n := range slices.Backward(tree.nodes) { // children come behind their parents
		if n.leaf >= 0 {
			spans[i].own = 1 // how many leaves are below, until the next loop
		} else {
			spans[i].own = spans[n.left].own + spans[n.left+1].own
		}
	}
	for i, n := range tree.nodes {
		if n.leaf < 0 {
			at := &spans[i]
			at.own = at.low + spans[n.left].own
			spans[n.left].low, spans[n.left].high = at.low, at.own
			spans[n.left+1].low, spans[n.left+1].high = at.own, at.high
		}
	}
	nobody := uint32(reachLines(tree.leaves) - 1) // where nobody looks
	line := func(k uint32) uint32 { return k * uint32(s.width) }
	taken := make([]bool, len(tree.nodes))
	var alone []int32
	for i := range tree.nodes {
		n := &tree.nodes[i]
		if n.leaf >= 0 || taken[i] {
			continue
		}
		left, right := &tree.nodes[n.left], &tree.nodes[n.left+1]
		if left.leaf >= 0 && right.leaf >= 0 {
			alone = append(alone, int32(i))
			continue
		}
		s.to = append(s.to, line(spans[i].low), line(spans[i].high), line(spans[i].own))
		s.add(n)
		for j, child := range []*node{left, right} {
			s.add(child)
			at := n.left + int32(j)
			taken[at] = true
			if child.leaf < 0 {
				s.to = append(s.to, line(spans[at].own))
			} else {
				s.to = append(s.to, line(nobody))
			}
		}
		threes++
	}
	for _, i := range alone {
		s.to = append(s.to, line(spans[i].low), line(spans[i].high), line(spans[i].own))
		s.add(&tree.nodes[i])
	}
	return threes, len(alone)
}

// reachLines is how many lines a tree needs: one for each leaf, with what follows the last up to a multiple of eight, and
// one where nobody looks.
func reachLines(leaves int) int { return max(leaves, (leaves+6)/8*8) + 2 }

// shallow is the depth of complete trees, whose leaves have numbers of six bits; deepest that of trees that are made of them.
const (
	shallow = 6
	deepest = 10
)

// full tells whether the slice kernel takes the tree for a complete one: 2^depth leaves, some of them the same. That is
// faster as long as not too many are, and more of them cost more where they are beyond the first 64.
func (t *tree) full() bool {
	if t.depth <= shallow {
		return 4*t.leaves > 1<<t.depth
	}
	return t.depth <= deepest && 2*t.leaves > 1<<t.depth
}

// top is the complete tree of the uppermost levels, whose leaves are what is below, from left to right. A leaf that is
// higher up is repeated.
func (t *tree) top(levels int) (*tree, []int32) {
	up := &tree{group: t.group, depth: levels, leaves: 1 << levels, nodes: make([]node, 1<<(levels+1)-1)}
	from := make([]int32, len(up.nodes))
	for i := range up.nodes {
		if i >= 1<<levels-1 {
			up.nodes[i].leaf = 0
			continue
		}
		n := &t.nodes[from[i]]
		up.nodes[i] = *n
		up.nodes[i].left, up.nodes[i].leaf = int32(2*i+1), -1
		from[2*i+1], from[2*i+2] = n.left, n.left
		if n.leaf < 0 {
			from[2*i+2]++
		}
	}
	return up, from[1<<levels-1:]
}

// leftToRight calls f for every leaf, in order. Trees are at most as deep as the readers allow.
func (t *tree) leftToRight(f func(at int32)) {
	stack := []int32{0}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n := &t.nodes[at]; n.leaf < 0 {
			stack = append(stack, n.left+1, n.left)
		} else {
			f(at)
		}
	}
}

// leafTable appends the values of up to 64 leaves, byte by byte: 64 times the lowest, 64 times the next.
func (p *plan) leafTable(to []byte, t *tree, ends []int32) []byte {
	at := len(to)
	to = append(to, make([]byte, 64*p.leafBytes())...)
	for i, end := range ends {
		var v [8]byte
		p.put(v[:], p.leaves[t.nodes[end].leaf])
		for j := range p.leafBytes() {
			to[at+64*j+i] = v[j]
		}
	}
	return to
}

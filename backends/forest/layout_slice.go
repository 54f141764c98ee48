//go:build cgo && linux

package forest

// sliceTables are the slice layout for registers of width bytes, 0 where the model has none.
type sliceTables struct {
	width, masks, reach, pages               int
	unitFirst, trees, mask, side, to, leaves offset
}

// Bounds on the working memory of the slice layout, beyond which it would not be the fastest anyway.
const (
	maxMaskBytes  = 16 << 20
	maxReachBytes = 8 << 20
)

func (p *plan) laySlices(a *arena, width int) sliceTables {
	t := sliceTables{width: width}
	lines := 0
	first := make([]int, len(p.units))
	for i, u := range p.units {
		first[i] = lines
		lines += len(u.thresholds) + 1
	}
	t.masks = lines
	for i := range p.trees {
		if tr := &p.trees[i]; !tr.complete() {
			t.reach = max(t.reach, tr.leaves+len(tr.nodes))
			t.pages = max(t.pages, (tr.leaves+63)/64)
		}
	}
	if p.sets || len(p.units) == 0 || lines*width > maxMaskBytes || t.reach*width > maxReachBytes || p.groups > 256 {
		return sliceTables{}
	}
	maskOf := func(n *node) uint32 { return uint32((first[n.unit] + int(n.rank)) * width) }
	sideOf := func(n *node) uint32 {
		if n.right {
			return uint32((int(n.unit) + 1) * width)
		}
		return 0
	}
	var heads, masks, sides, to []uint32
	var leaves []byte
	for i := range p.trees {
		tree := &p.trees[i]
		firstNode := len(masks)
		table := len(leaves) / 64
		if tree.complete() {
			depth := max(tree.depth, 3)
			heap := make([]int32, 1<<(depth+1)-1)
			for j := range 1<<depth - 1 {
				n := &tree.nodes[heap[j]]
				heap[2*j+1], heap[2*j+2] = n.left, n.left
				mask, side := uint32(0), uint32(0)
				if n.leaf < 0 {
					heap[2*j+2]++
					mask, side = maskOf(n), sideOf(n)
				}
				masks, sides, to = append(masks, mask), append(sides, side), append(to, 0, 0, 0)
			}
			leaves = p.leafTable(leaves, tree, heap[1<<depth-1:])
			heads = append(heads, uint32(depth), 0, uint32(firstNode), 0, uint32(table), uint32(tree.group))
			continue
		}
		// Lines of reach: the leaves from left to right, then the splits.
		var ends []int32
		line := make([]uint32, len(tree.nodes))
		tree.leftToRight(func(at int32) {
			line[at] = uint32(len(ends) * width)
			ends = append(ends, at)
		})
		splits := 0
		for j := range tree.nodes {
			if tree.nodes[j].leaf < 0 {
				line[j] = uint32((tree.leaves + splits) * width)
				splits++
			}
		}
		for j := range tree.nodes { // parents come before their children
			if n := &tree.nodes[j]; n.leaf < 0 {
				masks, sides = append(masks, maskOf(n)), append(sides, sideOf(n))
				to = append(to, line[j], line[n.left], line[n.left+1])
			}
		}
		for from := 0; from < len(ends); from += 64 {
			leaves = p.leafTable(leaves, tree, ends[from:min(from+64, len(ends))])
		}
		heads = append(heads, 0, uint32(splits), uint32(firstNode), uint32(tree.leaves), uint32(table), uint32(tree.group))
	}
	t.unitFirst, t.trees, t.mask, t.side, t.to = a.u32(u32s(first)), a.u32(heads), a.u32(masks), a.u32(sides), a.u32(to)
	t.leaves = a.bytes(leaves)
	return t
}

// complete tells whether the slice kernel takes the tree for a complete one: 2^depth leaves, some of them the same.
func (t *tree) complete() bool { return t.depth <= 6 && 4*t.leaves > 1<<t.depth }

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

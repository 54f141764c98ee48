//go:build cgo && linux

package forest

import (
	"encoding/binary"
	"math"

	"github.com/picket-ml/picket/internal/ensemble"
)

// arena collects the tables of a model in one range of memory, each aligned to a cache line.
type arena struct{ data []byte }

// offset is where a table starts in an arena.
type offset int

func (a *arena) align() offset {
	for len(a.data)%64 != 0 {
		a.data = append(a.data, 0)
	}
	return offset(len(a.data))
}

// room makes a table of n zero bytes.
func (a *arena) room(n int) offset {
	at := a.align()
	a.data = append(a.data, make([]byte, n)...)
	return at
}

func (a *arena) u32(values []uint32) offset {
	at := a.align()
	for _, v := range values {
		a.data = binary.LittleEndian.AppendUint32(a.data, v)
	}
	return at
}

func (a *arena) bytes(values []byte) offset {
	at := a.align()
	a.data = append(a.data, values...)
	return at
}

func (a *arena) f32(values []float32) offset {
	at := a.align()
	for _, v := range values {
		a.data = binary.LittleEndian.AppendUint32(a.data, math.Float32bits(v))
	}
	return at
}

func (a *arena) f64(values []float64) offset {
	at := a.align()
	for _, v := range values {
		a.data = binary.LittleEndian.AppendUint64(a.data, math.Float64bits(v))
	}
	return at
}

// put writes a float of the model's width at byte i.
func (p *plan) put(b []byte, v float64) {
	if p.wide {
		binary.LittleEndian.PutUint64(b, math.Float64bits(v))
	} else {
		binary.LittleEndian.PutUint32(b, math.Float32bits(float32(v)))
	}
}

func (p *plan) leafBytes() int {
	if p.wide {
		return 8
	}
	return 4
}

// plainTables are what the plain layout and all others share; see forest.h for all of these.
type plainTables struct {
	base, groupFirst, viewColumn, viewRule      offset
	nodes, roots, depths, setsIn, words, leaves offset
	unitView, unitSize, viewUnit                offset
	thresholds, search                          offset
}

// Bits of a node's what, as in forest.h.
const (
	defaultRight = 1 << 31
	setRight     = 1 << 30
	setLeft      = 1 << 29
	maxViews     = 1 << 29
)

func (p *plan) layPlain(a *arena) plainTables {
	var t plainTables
	t.base = a.f64(p.base)
	t.groupFirst = a.u32(u32s(p.groupFirst))
	var columns, roots, depths, words, unitView, unitSize []uint32
	var rules, setsIn []byte
	for _, v := range p.views {
		columns = append(columns, uint32(v.column))
		rules = append(rules, byte(v.missing))
	}
	t.viewColumn, t.viewRule = a.u32(columns), a.bytes(rules)

	t.nodes = a.align()
	first := uint32(0)
	for i := range p.trees {
		tree := &p.trees[i]
		roots, depths = append(roots, first), append(depths, uint32(tree.depth))
		setsIn = append(setsIn, flag(tree.sets))
		for j := range tree.nodes {
			n := &tree.nodes[j]
			threshold, what, leaf := math.Float32bits(n.threshold), uint32(n.view), uint32(max(n.leaf, 0))
			if n.right && n.leaf < 0 {
				what |= defaultRight
			}
			switch n.op {
			case ensemble.SetLeft:
				what |= setLeft
			case ensemble.SetRight:
				what |= setRight
			}
			if what&(setLeft|setRight) != 0 {
				threshold, leaf = uint32(len(n.set)), uint32(len(words))
				words = append(words, n.set...)
			}
			for _, v := range [4]uint32{threshold, what, first + uint32(n.left), leaf} {
				a.data = binary.LittleEndian.AppendUint32(a.data, v)
			}
		}
		first += uint32(len(tree.nodes))
	}
	t.roots, t.depths, t.setsIn, t.words = a.u32(roots), a.u32(depths), a.bytes(setsIn), a.u32(words)
	if p.wide {
		t.leaves = a.f64(p.leaves)
	} else {
		t.leaves = a.f32(narrow(p.leaves))
	}

	var thresholds, search []float32
	for _, u := range p.units {
		unitView, unitSize = append(unitView, uint32(u.view)), append(unitSize, uint32(len(u.thresholds)))
		at := func(i int) float32 {
			if i < len(u.thresholds) {
				return u.thresholds[i]
			}
			return nan32
		}
		for i := range 16 {
			thresholds = append(thresholds, at(16*i+15))
		}
		for i := range 256 {
			thresholds = append(thresholds, at(i))
		}
		// A node of level l has the middle one of 2^(8-l) - 1 thresholds.
		search = append(search, nan32)
		for l := range 8 {
			for i := range 1 << l {
				search = append(search, at(i<<(8-l)+1<<(7-l)-1))
			}
		}
	}
	viewUnit := make([]uint32, len(p.views)+1)
	for _, u := range p.units { // in the order of their views
		viewUnit[u.view+1]++
	}
	for i := range p.views {
		viewUnit[i+1] += viewUnit[i]
	}
	t.viewUnit = a.u32(viewUnit)
	t.unitView, t.unitSize, t.thresholds, t.search = a.u32(unitView), a.u32(unitSize), a.f32(thresholds), a.f32(search)
	return t
}

func u32s(in []int) []uint32 {
	out := make([]uint32, len(in))
	for i, v := range in {
		out[i] = uint32(v)
	}
	return out
}

func narrow(in []float64) []float32 {
	out := make([]float32, len(in))
	for i, v := range in {
		out[i] = float32(v)
	}
	return out
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// rowTables are the row layout; registers is 0 where the model has none.
type rowTables struct {
	registers, stride           int
	two                         bool
	slots, ranks, exits, blocks offset
}

// blockBytes is the size of a block whose exits are numbers or floats.
const blockBytes = 64

// leafExit marks an exit that is a leaf.
const leafExit = 1 << 31

// rowRegisters is how many registers of 64 bytes hold the ranks of all units twice, 0 for too many.
func (p *plan) rowRegisters() int {
	switch n := len(p.units); {
	case p.sets:
		return 0
	case n <= 32:
		return 1
	case n <= 64:
		return 2
	case n <= 128:
		return 4
	}
	return 0
}

func (p *plan) layRows(a *arena) rowTables {
	t := rowTables{registers: p.rowRegisters(), two: p.depth > 3 && p.depth <= 6, stride: blockBytes}
	if t.registers == 0 {
		return t
	}
	if p.wide && t.two {
		t.stride = 2 * blockBytes
	}
	all := (len(p.trees) + 63) / 64 * 64
	slots, ranks, exits := make([]byte, 8*all), make([]byte, 8*all), make([]uint32, 8*all)
	var blocks []byte
	if t.two {
		blocks = make([]byte, all*8*t.stride)
	}
	for i := range p.trees {
		tree := &p.trees[i]
		var next [8]int32
		p.block(tree, 0, t.registers, slots[8*i:], ranks[8*i:], &next)
		if t.two {
			for e, at := range next {
				b := blocks[(8*i+e)*t.stride:][:t.stride]
				var ends [8]int32
				p.block(tree, at, t.registers, b, b[8:], &ends)
				value := 16
				if p.wide {
					value = 64
				}
				for j, end := range ends {
					p.put(b[value+j*p.leafBytes():], p.leaves[tree.nodes[end].leaf])
				}
			}
			continue
		}
		for e, at := range next {
			exits[8*i+e] = p.chain(tree, at, t.registers, &blocks)
		}
	}
	t.slots, t.ranks, t.exits, t.blocks = a.bytes(slots), a.bytes(ranks), a.u32(exits), a.bytes(blocks)
	return t
}

// block writes the slots and ranks of the splits of the three levels from at on, and gives where its exits lead. Below a
// leaf the splits mean nothing, because all exits lead to it.
func (p *plan) block(t *tree, at int32, registers int, slots, ranks []byte, next *[8]int32) {
	var heap [15]int32
	heap[0] = at
	for i := range 7 {
		n := &t.nodes[heap[i]]
		heap[2*i+1], heap[2*i+2] = n.left, n.left
		if n.leaf >= 0 {
			continue
		}
		heap[2*i+2]++
		slots[i], ranks[i] = byte(n.unit), n.rank
		if n.right {
			slots[i] += byte(32 * registers)
		}
	}
	copy(next[:], heap[7:])
}

// chain appends the block that starts at a node, and those below it, to blocks and gives what leads to it.
func (p *plan) chain(t *tree, at int32, registers int, blocks *[]byte) uint32 {
	if leaf := t.nodes[at].leaf; leaf >= 0 {
		return uint32(leaf) | leafExit
	}
	number := len(*blocks) / blockBytes
	var b [blockBytes]byte
	var next [8]int32
	p.block(t, at, registers, b[:8], b[8:16], &next)
	*blocks = append(*blocks, b[:]...)
	for e, to := range next {
		exit := uint32(0)
		if e > 0 && to == next[e-1] { // both exits of a padded split: the same leaf
			exit = binary.LittleEndian.Uint32((*blocks)[number*blockBytes+16+4*(e-1):])
		} else {
			exit = p.chain(t, to, registers, blocks)
		}
		binary.LittleEndian.PutUint32((*blocks)[number*blockBytes+16+4*e:], exit)
	}
	return uint32(number)
}

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

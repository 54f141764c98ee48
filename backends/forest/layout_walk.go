package forest

import (
	"math"

	"github.com/picket-ml/picket/internal/ensemble"
)

// The walk layout, which every model has. Values and thresholds are integers in the order of the floats they stand for, and
// a row is laid out twice, so that one comparison of integers is all that a split takes, missing values or not.

// split sends a row right if the key of its slot is at least key.
type split struct {
	key  int32
	slot uint32 // 2 * view, and 1 more where missing values go right; in the last level the exits above it, see block
}

// block is up to seven splits in three levels, in the order of a heap, and fills a cache line. Its children lie side by
// side, as do its leaves. Each of the four last splits says in the highest byte of its slot where it leads, left in the low
// half: bit 3 for a leaf, and which one of the block's.
//
// A block that is a split by set has the flags below in its first slot and the number of words of the set for its key;
// its second split has the first word for its key and the exits.
type block struct {
	splits [7]split
	blocks uint32 // first child
	leaves uint32 // first leaf, with leafExit
}

// Bits of slots, as in forest.h.
const (
	setBlock   = 1 << 31
	setIsLeft  = 1 << 30 // a category in the set goes left, else it goes right
	setMissing = 1 << 29 // missing goes right
	slotBits   = 24
	maxViews   = 1 << (slotBits - 1)
	exitLeaf   = 8
)

// leafExit marks an exit that is a leaf.
const leafExit = 1 << 31

// Keys that no value has. -0 has the key of 0.
const (
	missingLeft  = math.MinInt32
	missingRight = math.MaxInt32
	unreachable  = math.MaxInt32 - 1
)

// keyOf gives an integer that compares with others as x does. x is not NaN.
func keyOf(x float32) int32 {
	k := int32(math.Float32bits(x + 0)) //nolint:gosec // the bits as they are
	return k ^ k>>31&math.MaxInt32
}

// floatOf is the float of a key: NaN of keys that no value has.
func floatOf(key int32) float32 {
	return math.Float32frombits(uint32(key ^ key>>31&math.MaxInt32))
}

// thresholdKey is keyOf, or unreachable for NaN, a threshold that nothing reaches.
func thresholdKey(threshold float32) int32 {
	if threshold != threshold {
		return unreachable
	}
	return keyOf(threshold)
}

// walkLayout is a model in blocks.
type walkLayout struct {
	blocks []block
	roots  []uint32  // of the trees: number of a block, or leaf with leafExit
	words  []uint32  // of the sets
	leaves []float64 // of a block side by side
}

// layWalk makes the blocks of p. The roots come first, so that fetching them is reading on.
func (p *plan) layWalk() *walkLayout {
	w := &walkLayout{roots: make([]uint32, len(p.trees)), leaves: make([]float64, 0, len(p.leaves))}
	roots := uint32(0)
	for i := range p.trees {
		w.roots[i] = roots
		if n := &p.trees[i].nodes[0]; n.leaf >= 0 {
			w.roots[i] = w.leaf(p, n.leaf) | leafExit
		} else {
			roots++
		}
	}
	w.blocks = make([]block, roots, int(roots)+len(p.leaves)/3)
	for i, root := range w.roots {
		if root < leafExit {
			w.fill(p, &p.trees[i], 0, root)
		}
	}
	return w
}

func (w *walkLayout) leaf(p *plan, leaf int32) uint32 {
	at := uint32(len(w.leaves))
	w.leaves = append(w.leaves, p.leaves[leaf])
	return at
}

// fill writes block number, which starts at a node that is no leaf, and those below it.
func (w *walkLayout) fill(p *plan, t *tree, at int32, number uint32) {
	b := block{blocks: uint32(len(w.blocks)), leaves: uint32(len(w.leaves)) | leafExit}
	var below [8]int32
	lasts, last := b.splits[3:], 4
	if n := &t.nodes[at]; n.isSet() {
		set := p.categories[n.set]
		b.splits[0] = split{int32(len(set)), uint32(2*n.view) | setBlock}
		if n.op == ensemble.SetLeft {
			b.splits[0].slot |= setIsLeft
		} else if n.right {
			b.splits[0].slot |= setMissing
		}
		b.splits[1].key = int32(len(w.words))
		w.words = append(w.words, set...)
		below[0], below[1] = n.left, n.left+1
		lasts, last = b.splits[1:], 1
	} else {
		t.cut(at, (*node).isSet, &below, func(i int, n *node) {
			s := split{thresholdKey(n.threshold), uint32(2 * n.view)}
			if n.right {
				s.slot++
			}
			b.splits[i] = s
		})
	}
	var children [8]int32
	exit, leaves, blocks := uint32(0), uint32(0), uint32(0)
	for e, to := range below[:2*last] {
		switch {
		case e > 0 && to == below[e-1]: // both exits of a split that is not there
		case t.nodes[to].leaf >= 0:
			w.leaf(p, t.nodes[to].leaf)
			exit = exitLeaf | leaves
			leaves++
		default:
			exit = blocks
			children[blocks] = to
			blocks++
		}
		lasts[e/2].slot |= exit << (slotBits + e%2*4)
	}
	w.blocks = append(w.blocks, make([]block, blocks)...)
	w.blocks[number] = b
	for i, to := range children[:blocks] {
		w.fill(p, t, to, b.blocks+uint32(i))
	}
}

// cut calls split for the splits in the three levels from at on, numbered as in a heap, and gives where the eight exits
// lead. Below a leaf, and below a node other than the first for which stop holds, nothing is split: all exits lead to it.
func (t *tree) cut(at int32, stop func(*node) bool, below *[8]int32, split func(i int, n *node)) {
	var heap [15]int32
	heap[0] = at
	for i := range 7 {
		n := &t.nodes[heap[i]]
		if n.leaf >= 0 || stop(n) {
			heap[2*i+1], heap[2*i+2] = heap[i], heap[i]
			continue
		}
		heap[2*i+1], heap[2*i+2] = n.left, n.left+1
		split(i, n)
	}
	copy(below[:], heap[7:])
}

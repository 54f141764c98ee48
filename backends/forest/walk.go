package forest

import "math"

// walker is the kernel in Go: what programs without C run.
type walker struct {
	*walkLayout
	features, groups int
	wide, baseLast   bool
	base             []float64
	groupFirst       []int
	views            []view
}

func newWalker(p *plan) walker {
	return walker{p.layWalk(), p.features, p.groups, p.wide, p.baseLast, p.base, p.groupFirst, p.views}
}

// margins writes the sums of each row to out, before any transform. keys holds 2 * len(views) values of scratch.
func (w walker) margins(in []float32, rows int, out []float64, keys []int32) {
	for r := range rows {
		from := in[r*w.features : (r+1)*w.features]
		for i, v := range w.views {
			left, right := int32(missingLeft), int32(missingRight)
			if x := v.of(from); x == x {
				left = keyOf(x)
				right = left
			}
			keys[2*i], keys[2*i+1] = left, right
		}
		for g := range w.groups {
			out[r*w.groups+g] = w.sum(g, keys)
		}
	}
}

func (w walker) sum(g int, keys []int32) float64 {
	roots := w.roots[w.groupFirst[g]:w.groupFirst[g+1]]
	if w.wide {
		sum := w.base[g]
		for _, root := range roots {
			sum += w.leaves[w.walk(root, keys)]
		}
		return sum
	}
	sum := float32(w.base[g])
	if w.baseLast {
		sum = 0
	}
	for _, root := range roots {
		sum += float32(w.leaves[w.walk(root, keys)])
	}
	if w.baseLast {
		sum += float32(w.base[g])
	}
	return float64(sum)
}

// walk gives the leaf where a row ends.
func (w walker) walk(to uint32, keys []int32) uint32 {
	for to < leafExit {
		b := &w.blocks[to]
		var exits uint32
		if s := b.splits[0]; s.slot&setBlock != 0 {
			exits = b.splits[1].slot >> (slotBits + 4*w.goesRight(b, keys))
		} else {
			i := right(s, keys)
			i = 2*i + right(b.splits[1+i&1], keys)
			last := b.splits[3+i&3]
			exits = last.slot >> slotBits
			last.slot &= 1<<slotBits - 1
			exits >>= 4 * right(last, keys)
		}
		first := b.blocks
		if exits&exitLeaf != 0 {
			first = b.leaves
		}
		to = first + exits&7
	}
	return to &^ leafExit
}

// right is 1 if the row goes right, else 0, without a branch.
func right(s split, keys []int32) uint32 {
	return uint32((int64(s.key) - 1 - int64(keys[s.slot])) >> 63 & 1)
}

// goesRight is 1 if the row goes right at a block that is a split by set, else 0. LightGBM cuts towards zero what lies
// above -1, XGBoost knows categories up to 2^24.
func (w walker) goesRight(b *block, keys []int32) uint32 {
	s := b.splits[0]
	k := keys[s.slot&(1<<slotBits-1)]
	x := floatOf(k)
	words := w.words[b.splits[1].key:][:s.key]
	if s.slot&setIsLeft != 0 {
		return uint32(flag(!(x > -1 && x < math.MaxInt32 && inSet(words, uint32(x)))))
	}
	if x != x {
		return s.slot / setMissing & 1
	}
	return uint32(flag(x >= 0 && x < 1<<24 && inSet(words, uint32(x))))
}

func inSet(words []uint32, c uint32) bool {
	return int(c/32) < len(words) && words[c/32]>>(c%32)&1 == 1
}

//go:build cgo && linux

package forest

import "encoding/binary"

// rowTables are the row layout; registers is 0 where the model has none.
type rowTables struct {
	registers, stride                 int
	two                               bool
	units, copies                     int
	unitView, unitMissing, thresholds offset
	slots, ranks, exits, blocks       offset
}

// What a block of the row layout is made of, in bytes; see forest.h.
const (
	blockBytes  = 64
	blockRanks  = 8
	blockExits  = 16
	blockLeaves = 32
	// maxDistance is how far a child or leaf may lie from its block, in units of four bytes.
	maxDistance = 1<<15 - 1
	exitIsLeaf  = 1 << 15
	// maxTwoTrees is the most trees that get eight second blocks each whether they need them or not: half a kilobyte a tree,
	// which a million trees of one leaf beside one of depth 4 would turn into half a gigabyte.
	maxTwoTrees = 1 << 16
)

// rowSlots says where in at most four registers of 64 bytes the row kernel finds the rank that a split compares with.
type rowSlots struct {
	registers int
	units     []unit
	missing   []byte // rank of a missing value
	copies    int    // distance to a second copy of all ranks, in which missing values have rank 255
	at        func(n *node) (slot, rank uint8)
}

// rowSlots lays out the plan's units, twice. Where these are too many, missing values get units of their own: the
// thresholds of a view where they go left make units apart from those where they go right, and there is only one copy.
// Where it is still too much, it has no registers.
func (p *plan) rowSlots() rowSlots {
	if p.sets {
		return rowSlots{}
	}
	if n := len(p.units); n <= 128 {
		s := rowSlots{registers: 4, units: p.units, missing: make([]byte, n)}
		switch {
		case n <= 32:
			s.registers = 1
		case n <= 64:
			s.registers = 2
		}
		s.copies = 32 * s.registers
		s.at = func(n *node) (uint8, uint8) { return uint8(int(n.unit) + int(flag(n.right))*s.copies), n.rank }
		return s
	}
	thresholds := make([][]int32, 2*len(p.views))
	list := func(n *node) int32 { return 2*n.view + int32(flag(n.right)) }
	p.splits(func(n *node) { thresholds[list(n)] = append(thresholds[list(n)], thresholdKey(n.threshold)) })
	units, rank := unitsOf(thresholds)
	if len(units) > 256 {
		return rowSlots{}
	}
	s := rowSlots{registers: 4, units: units, copies: 256}
	for i := range units {
		s.missing = append(s.missing, byte(units[i].view%2*255))
		units[i].view /= 2
	}
	s.at = func(n *node) (uint8, uint8) {
		unit, rank := rank(list(n), n.threshold)
		return uint8(unit), rank
	}
	return s
}

func (p *plan) layRows(a *arena) rowTables {
	s := p.rowSlots()
	two := p.depth > 3 && p.depth <= 6 && len(p.trees) <= maxTwoTrees
	t := rowTables{registers: s.registers, two: two, stride: blockBytes, units: len(s.units), copies: s.copies}
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
	} else {
		blocks = make([]byte, 0, (len(p.trees)+len(p.leaves)/3)*blockBytes) // about as many
	}
	for i := range p.trees {
		tree := &p.trees[i]
		var next [8]int32
		s.block(tree, 0, slots[8*i:], ranks[8*i:], &next)
		if t.two {
			for e, at := range next {
				p.lastBlock(s, tree, at, blocks[(8*i+e)*t.stride:][:t.stride])
			}
			continue
		}
		first := len(blocks)
		blocks = append(blocks, make([]byte, (8*p.leafBytes()+blockBytes-1)/blockBytes*blockBytes)...)
		for e, at := range next {
			switch leaf := tree.nodes[at].leaf; {
			case e > 0 && at == next[e-1]:
				exits[8*i+e] = exits[8*i+e-1]
			case leaf >= 0:
				value := first + e*p.leafBytes()
				p.put(blocks[value:], p.leaves[leaf])
				exits[8*i+e] = uint32(value/4) | leafExit
			default:
				exits[8*i+e] = uint32(len(blocks) / 4)
				if !p.chain(s, tree, at, &blocks) {
					return rowTables{}
				}
			}
		}
	}
	if len(blocks)/4 >= leafExit {
		return rowTables{}
	}
	unitView := make([]uint32, len(s.units))
	for i, u := range s.units {
		unitView[i] = uint32(u.view)
	}
	t.unitView, t.unitMissing, t.thresholds = a.u32(unitView), a.bytes(s.missing), a.f32(pivoted(s.units))
	t.slots, t.ranks, t.exits, t.blocks = a.bytes(slots), a.bytes(ranks), a.u32(exits), a.bytes(blocks)
	return t
}

// block writes the slots and ranks of the splits of the three levels from at on, and gives where its exits lead.
func (s rowSlots) block(t *tree, at int32, slots, ranks []byte, next *[8]int32) {
	t.cut(at, (*node).isSet, next, func(i int, n *node) { slots[i], ranks[i] = s.at(n) })
}

// lastBlock writes a block whose exits are all leaves.
func (p *plan) lastBlock(s rowSlots, t *tree, at int32, b []byte) {
	var ends [8]int32
	s.block(t, at, b, b[blockRanks:], &ends)
	leaves := blockExits
	if p.wide {
		leaves = blockBytes
	}
	for j, end := range ends {
		p.put(b[leaves+j*p.leafBytes():], p.leaves[t.nodes[end].leaf])
	}
}

// chain appends the block that starts at a node, its leaves, and the blocks below it to blocks. It gives up where one of
// them comes to lie too far away.
func (p *plan) chain(s rowSlots, t *tree, at int32, blocks *[]byte) bool {
	first := len(*blocks)
	var next [8]int32
	leaves := 0
	var b [blockLeaves + 8*8 + blockBytes]byte
	s.block(t, at, b[:], b[blockRanks:], &next)
	var exits [8]int
	for e, to := range next {
		switch leaf := t.nodes[to].leaf; {
		case e > 0 && to == next[e-1]:
			exits[e] = exits[e-1]
		case leaf >= 0:
			value := blockLeaves + leaves*p.leafBytes()
			leaves++
			p.put(b[value:], p.leaves[leaf])
			exits[e] = value/4 | exitIsLeaf
		}
	}
	*blocks = append(*blocks, b[:(blockLeaves+leaves*p.leafBytes()+blockBytes-1)/blockBytes*blockBytes]...)
	for e, to := range next {
		if e > 0 && to == next[e-1] {
			exits[e] = exits[e-1]
		} else if t.nodes[to].leaf < 0 {
			exits[e] = (len(*blocks) - first) / 4
			if exits[e] > maxDistance || !p.chain(s, t, to, blocks) {
				return false
			}
		}
		binary.LittleEndian.PutUint16((*blocks)[first+blockExits+2*e:], uint16(exits[e]))
	}
	return true
}

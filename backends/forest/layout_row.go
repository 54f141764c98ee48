//go:build cgo && linux

package forest

import "encoding/binary"

// rowTables are the row layout; registers is 0 where the model has none.
type rowTables struct {
	registers, stride           int
	two                         bool
	slots, ranks, exits, blocks offset
}

// blockBytes is the size of a block whose exits are numbers or floats.
const blockBytes = 64

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

func (p *plan) layRows(a *arena, place []uint32) rowTables {
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
			exits[8*i+e] = p.chain(tree, at, t.registers, place, &blocks)
		}
	}
	t.slots, t.ranks, t.exits, t.blocks = a.bytes(slots), a.bytes(ranks), a.u32(exits), a.bytes(blocks)
	return t
}

// block writes the slots and ranks of the splits of the three levels from at on, and gives where its exits lead.
func (p *plan) block(t *tree, at int32, registers int, slots, ranks []byte, next *[8]int32) {
	t.cut(at, (*node).isSet, next, func(i int, n *node) {
		slots[i], ranks[i] = byte(n.unit), n.rank
		if n.right {
			slots[i] += byte(32 * registers)
		}
	})
}

// chain appends the block that starts at a node, and those below it, to blocks and gives what leads to it.
func (p *plan) chain(t *tree, at int32, registers int, place []uint32, blocks *[]byte) uint32 {
	if leaf := t.nodes[at].leaf; leaf >= 0 {
		return place[leaf] | leafExit
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
			exit = p.chain(t, to, registers, place, blocks)
		}
		binary.LittleEndian.PutUint32((*blocks)[number*blockBytes+16+4*e:], exit)
	}
	return uint32(number)
}

//go:build cgo && linux

package forest

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/picket-ml/picket/internal/ensemble"
)

// plainTables are what the plain layout and all others share; see forest.h for all of these.
type plainTables struct {
	base, groupFirst, viewColumn, viewRule      offset
	nodes, roots, depths, setsIn, words, leaves offset
	unitView, unitSize, viewUnit                offset
	thresholds, search, levels                  offset
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
	var levels []byte
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
		// The shallowest heap that holds them all; a node of level l has the middle one of 2^(depth-l) - 1 thresholds.
		depth := max(4, bits.Len(uint(len(u.thresholds))))
		levels = append(levels, byte(depth))
		heap := []float32{nan32}
		for l := range depth {
			for i := range 1 << l {
				heap = append(heap, at(i<<(depth-l)+1<<(depth-1-l)-1))
			}
		}
		search = append(append(search, heap...), make([]float32, 256-len(heap))...)
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
	t.levels = a.bytes(levels)
	return t
}

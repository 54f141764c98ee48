//go:build cgo && linux

package forest

import "math/bits"

// commonTables are the walk layout and what all layouts share; see forest.h for all of these.
type commonTables struct {
	base, groupFirst, viewColumn, viewRule offset
	blocks, roots, words, leaves           offset
	unitView, unitSize                     offset
	thresholds, search, levels             offset
}

func (p *plan) layCommon(a *arena, w *walkLayout) commonTables {
	var t commonTables
	t.base = a.f64(p.base)
	t.groupFirst = a.u32(u32s(p.groupFirst))
	var columns, unitView, unitSize []uint32
	var rules []byte
	for _, v := range p.views {
		columns = append(columns, uint32(v.column))
		rules = append(rules, byte(v.missing))
	}
	t.viewColumn, t.viewRule = a.u32(columns), a.bytes(rules)
	t.blocks = a.bytes(bytesOf(w.blocks))
	t.roots, t.words = a.u32(w.roots), a.u32(w.words)
	if p.wide {
		t.leaves = a.f64(w.leaves)
	} else {
		t.leaves = a.f32(narrow(w.leaves))
	}

	var search []float32
	var levels []byte
	for _, u := range p.units {
		unitView, unitSize = append(unitView, uint32(u.view)), append(unitSize, uint32(len(u.thresholds)))
		// The shallowest heap that holds them all; a node of level l has the middle one of 2^(depth-l) - 1 thresholds.
		depth := max(4, bits.Len(uint(len(u.thresholds))))
		levels = append(levels, byte(depth))
		heap := []float32{nan32}
		for l := range depth {
			for i := range 1 << l {
				heap = append(heap, u.at(i<<(depth-l)+1<<(depth-1-l)-1))
			}
		}
		search = append(append(search, heap...), make([]float32, 256-len(heap))...)
	}
	t.unitView, t.unitSize, t.thresholds, t.search = a.u32(unitView), a.u32(unitSize), a.f32(pivoted(p.units)), a.f32(search)
	t.levels = a.bytes(levels)
	return t
}

// pivoted gives 16 pivots and 256 thresholds of each unit, NaN where there are less.
func pivoted(units []unit) []float32 {
	out := make([]float32, 0, len(units)*(16+256))
	for _, u := range units {
		for i := range 16 {
			out = append(out, u.at(16*i+15))
		}
		for i := range 256 {
			out = append(out, u.at(i))
		}
	}
	return out
}

func (u *unit) at(i int) float32 {
	if i < len(u.thresholds) {
		return u.thresholds[i]
	}
	return nan32
}

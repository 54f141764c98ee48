//go:build cgo && linux

package forest

/*
#include "forest.h"
*/
import "C"

import (
	"math"
	"unsafe"

	"github.com/picket-ml/picket/tensor"
)

// How long a calibration may take one kernel, roughly, and how often it is run.
const (
	calibrationRuns  = 5
	calibrationNodes = 1 << 19 // rows times nodes beyond which fewer rows are tried
	// calibrationValues is how large the rows may be: beyond, fetching them takes longer than any kernel.
	calibrationValues = 1 << 24
)

// calibrate times the kernels on rows of thresholds of the model and values beside them.
func (g *program) calibrate(p *plan, rows rowTables, slices sliceTables) error {
	atOnce := 8 * slices.width
	n := max(atOnce, 64)
	if n*p.features > calibrationValues {
		return nil // the plain kernel
	}
	in, err := alloc(4*n*p.features, false)
	if err != nil {
		return err
	}
	defer in.Release()
	out, err := alloc(8*n*p.groups, false)
	if err != nil {
		return err
	}
	defer out.Release()
	scratch, err := g.newScratch(false)
	if err != nil {
		return err
	}
	defer scratch.Release()
	newTypical(p, math.MaxInt).fill(unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(in.Bytes()))), n*p.features))
	at := func(b *tensor.Buffer) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b.Bytes())) }
	time := func(family, slice, rows int) float64 {
		return g.time(family, slice, at(in), at(out), at(scratch), rows, calibrationRuns)
	}
	few := max(4, min(64, calibrationNodes/(64+len(p.leaves))))
	perRow := time(0, 0, few) / float64(few)
	if rows.registers != 0 {
		if t := time(g.family.number, 0, few) / float64(few); t < perRow {
			g.choice.few, perRow = C.int(g.family.number), t
		}
	}
	g.choice.perRow = perRow
	if slices.width != 0 {
		some, all := time(g.family.number, 1, 8), time(g.family.number, 1, atOnce)
		if all < perRow*float64(atOnce) {
			g.choice.perRow = all / float64(atOnce)
			// Its time grows in proportion to the rows from a large first step; where the lines cross, it takes over.
			slope := max(0, (all-some)/float64(atOnce-8))
			from := atOnce
			if perRow > slope {
				from = min(atOnce, max(1, int((some-8*slope)/(perRow-slope))+1))
			}
			g.choice.many, g.choice.manyFrom, g.choice.manyAtOne = C.int(g.family.number), from, atOnce
		}
	}
	return nil
}

// time is the shortest time of several runs of a kernel, in nanoseconds.
func (g *program) time(family, slice int, in, out, scratch unsafe.Pointer, rows, runs int) float64 {
	return float64(C.picket_forest_time(g.forest, C.int(family), C.int(slice), (*C.float)(in), C.size_t(rows), out, (*C.uint8_t)(scratch), C.int(runs)))
}

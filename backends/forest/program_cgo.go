//go:build cgo && linux

package forest

/*
// ISO C, because with it gcc fuses no multiplications and additions.
#cgo CFLAGS: -O3 -std=c11
#include "forest.h"
*/
import "C"

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// program is a model laid out in memory for the kernels of a family, and which of them to run for how many rows. It owns
// its memory and is immutable; any number of goroutines may run it, each with scratch memory of its own.
type program struct {
	memory  *tensor.Buffer
	forest  *C.picket_forest // at the start of memory
	family  family
	scratch int
	// choice says what runs; the calibration fills it in.
	choice choice
}

// choice is how many rows go to which kernel.
type choice struct {
	few       C.int   // family of the kernel for few rows: the row kernel's, or 0 for the plain one
	many      C.int   // family of the slice kernel; 0: there is none
	manyFrom  int     // least number of rows for the slice kernel
	manyAtOne int     // how many rows it takes at once
	perRow    float64 // nanoseconds, in large batches; 0: not measured
}

// Rows that the walk takes through some trees before it goes on to the next.
const walkRows = C.PICKET_WALK_ROWS

// Rows that a kernel takes at once at most; more rows are run in parts.
const mostRows = C.PICKET_MOST_ROWS

// newProgram lays p out and finds the fastest kernels. The caller closes the program.
func newProgram(p *plan, host *hw.Host, pin bool) (*program, error) {
	g, rows, slices, err := layOut(p, familyOf(host), true, pin)
	if err != nil {
		return nil, err
	}
	if slices.width != 0 {
		C.picket_forest_order(C.int(g.family.number), g.forest.slice_order)
	}
	if err := g.calibrate(p, rows, slices); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// layOut lays p out for a family, with the tables of its slice kernel or without. It runs no kernel, so that the family
// may be another processor's. The caller closes the program, for which nothing is chosen yet.
func layOut(p *plan, family family, batches, pin bool) (*program, rowTables, sliceTables, error) {
	var rows rowTables
	var slices sliceTables
	if len(p.views) >= maxViews || len(p.leaves) >= leafExit/2 {
		return nil, rows, slices, fmt.Errorf("%w: the model has more leaves or columns than 32-bit numbers can tell apart", engine.ErrUnsupported)
	}
	var a arena
	a.room(int(unsafe.Sizeof(C.picket_forest{})))
	walk := p.layWalk()
	common := p.layCommon(&a, walk)
	if family.number != 0 {
		rows = p.layRows(&a)
	}
	if family.number != 0 && batches {
		slices = p.laySlices(&a, family.width)
	}
	order := a.room(2 * 2 * mostRows)
	memory, err := alloc(lines(a.size), pin)
	if err != nil {
		return nil, rows, slices, err
	}
	a.write(memory.Bytes())
	base := unsafe.Pointer(unsafe.SliceData(memory.Bytes()))
	f := (*C.picket_forest)(base)
	u32 := func(o offset) *C.uint32_t { return (*C.uint32_t)(unsafe.Add(base, o)) }
	u8 := func(o offset) *C.uint8_t { return (*C.uint8_t)(unsafe.Add(base, o)) }
	f32 := func(o offset) *C.float { return (*C.float)(unsafe.Add(base, o)) }
	f64 := func(o offset) *C.double { return (*C.double)(unsafe.Add(base, o)) }

	f.features, f.groups, f.trees = C.uint32_t(p.features), C.uint32_t(p.groups), C.uint32_t(len(p.trees))
	f.wide, f.base_last, f.base, f.group_first = number(p.wide), number(p.baseLast), f64(common.base), u32(common.groupFirst)
	f.plain, f.views, f.view_column, f.view_rule = number(p.plain), C.uint32_t(len(p.views)), u32(common.viewColumn), u8(common.viewRule)
	f.sets, f.walk_blocks = number(p.sets), (*C.picket_block)(unsafe.Add(base, common.blocks))
	f.roots, f.words = u32(common.roots), u32(common.words)
	f.leaves32, f.leaves64 = f32(common.leaves), f64(common.leaves)
	f.units, f.unit_view, f.unit_size, f.thresholds = C.uint32_t(len(p.units)), u32(common.unitView), u32(common.unitSize), f32(common.thresholds)
	f.search, f.levels = f32(common.search), u8(common.levels)
	f.row_registers, f.row_two, f.row_stride = C.uint32_t(rows.registers), number(rows.two), C.uint32_t(rows.stride)
	f.row_units, f.row_copies = C.uint32_t(rows.units), C.uint32_t(rows.copies)
	f.row_unit_view, f.row_unit_missing, f.row_thresholds = u32(rows.unitView), u8(rows.unitMissing), f32(rows.thresholds)
	f.top_slots, f.top_ranks, f.top_exits, f.blocks = u8(rows.slots), u8(rows.ranks), u32(rows.exits), u8(rows.blocks)
	f.slice_width, f.masks = C.uint32_t(slices.width), C.uint32_t(slices.masks)
	f.unit_first, f.slice_trees = u32(slices.unitFirst), (*C.picket_slice_tree)(unsafe.Add(base, slices.trees))
	f.unit_right, f.slice_right = u32(slices.unitRight), u32(slices.right)
	f.slice_mask, f.slice_side, f.slice_to, f.slice_leaves = u32(slices.mask), u32(slices.side), u32(slices.to), u8(slices.leaves)
	f.slice_order = (*C.uint16_t)(unsafe.Add(base, order))
	return &program{memory: memory, forest: f, family: family, scratch: scratchBytes(p, rows, slices)}, rows, slices, nil
}

func number(b bool) C.uint32_t { return C.uint32_t(flag(b)) }

func lines(n int) int { return (n + 63) / 64 * 64 }

// scratchBytes is what the hungriest kernel of a model takes; see the kernels for how they divide it.
func scratchBytes(p *plan, rows rowTables, slices sliceTables) int {
	views := lines(4 * len(p.views))
	n := views + walkRows*lines(2*4*len(p.views))
	if rows.registers != 0 {
		n = max(n, views+512+lines(len(p.trees))+C.PICKET_ROW_SCRATCH)
	}
	if w := slices.width; w != 0 {
		m := len(p.views)*64*4 + len(p.units)*8*w + len(p.units)*w + slices.masks*w + p.groups*8*w*8 + slices.reach*w
		if !p.plain {
			m += lines(4 * len(p.views) * 8 * w)
		}
		n = max(n, m)
	}
	return n + 64
}

// newScratch gives the memory that one run at a time needs. The caller releases it.
func (g *program) newScratch(pin bool) (*tensor.Buffer, error) { return alloc(g.scratch, pin) }

// run writes the margins of the rows at in to out, float32 or, for a wide model, float64.
func (g *program) run(in, out, scratch unsafe.Pointer, rows int) {
	c := &g.choice
	f := g.forest
	if c.many != 0 && rows >= c.manyFrom {
		// What is left after whole parts goes to the other kernel if it is too little for another part.
		some := rows
		if rest := rows % c.manyAtOne; rest < c.manyFrom {
			some -= rest
		}
		C.picket_forest_run(f, c.many, 1, (*C.float)(in), C.size_t(some), out, (*C.uint8_t)(scratch))
		if some == rows {
			return
		}
		size := 4
		if f.wide != 0 {
			size = 8
		}
		in, out = unsafe.Add(in, some*int(f.features)*4), unsafe.Add(out, some*int(f.groups)*size)
		rows -= some
	}
	C.picket_forest_run(f, c.few, 0, (*C.float)(in), C.size_t(rows), out, (*C.uint8_t)(scratch))
}

// part is how many rows take at least so long, in whole blocks of the slice kernel.
func (g *program) part(least time.Duration) int {
	c := &g.choice
	whole := max(64, c.manyAtOne)
	return max(1, int(math.Ceil(float64(least.Nanoseconds())/max(c.perRow, 1)/float64(whole)))) * whole
}

// transforms are those that there is code for in C.
var transforms = map[ensemble.Transform]C.uint32_t{
	ensemble.Identity: C.PICKET_IDENTITY, ensemble.Sigmoid: C.PICKET_SIGMOID,
	ensemble.Exponential: C.PICKET_EXPONENTIAL, ensemble.Softmax: C.PICKET_SOFTMAX,
}

// finish turns the margins of the rows into predictions if there is code in C for that, and says whether it did. Of a wide
// model the margins change, of another they are out itself. The bits are those of ensemble.Transform.
func (g *program) finish(head *ensemble.Ensemble, margins, out unsafe.Pointer, rows int) bool {
	how, ok := transforms[head.Objective.Transform]
	if !ok || head.Average || head.Library == ensemble.ONNX {
		return false
	}
	return C.picket_forest_finish(C.int(g.family.number), how, g.forest.groups, g.forest.wide, C.double(head.Objective.SigmoidAlpha),
		margins, C.size_t(rows), (*C.float)(out)) != 0
}

// batchRows is how many rows are worth being gathered. The slice kernels prepare each
// tree once for all rows of a run: with AVX2 a row of 64 costs two to three times what one of 256
// does, and more rows win little and wait longer.
func (g *program) batchRows() int {
	if g.choice.many == 0 {
		return 0
	}
	return 256
}

// Variant names the kernels that were chosen.
func (g *program) Variant() string {
	few, many := plainFamily.name, ""
	if g.choice.few != 0 {
		few = g.family.name + " row"
	}
	if g.choice.many != 0 {
		many = fmt.Sprintf(", %s slice from %d rows", g.family.name, g.choice.manyFrom)
	}
	return few + many
}

// Close releases the memory.
func (g *program) Close() {
	g.memory.Release()
	g.memory, g.forest = nil, nil
}

// rowOnly and sliceOnly are choices that the calibration might not make.
func rowOnly(family int) choice { return choice{few: C.int(family)} }

func sliceOnly(family, atOnce int) choice {
	return choice{many: C.int(family), manyFrom: 1, manyAtOne: atOnce}
}

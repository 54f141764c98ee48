//go:build !cgo || !linux

package forest

import (
	"time"
	"unsafe"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// program is a model in the form that the kernel in Go runs. It is immutable; any number of goroutines may run it, each
// with scratch memory of its own.
type program struct{ walker }

// Rows that are looked at together.
const mostRows = 64

func newProgram(p *plan, _ *hw.Host, _ bool) (*program, error) { return &program{newWalker(p)}, nil }

// newScratch gives the memory that one run at a time needs: a part's margins and a row's keys. The caller releases it.
func (g *program) newScratch(pin bool) (*tensor.Buffer, error) {
	return alloc(8*mostRows*g.groups+2*4*len(g.views), pin)
}

// run writes the margins of the rows at in to out, float32 or, for a wide model, float64.
func (g *program) run(in, out, scratch unsafe.Pointer, rows int) {
	margins := unsafe.Slice((*float64)(scratch), mostRows*g.groups)
	keys := unsafe.Slice((*int32)(unsafe.Add(scratch, 8*len(margins))), 2*len(g.views))
	for rows > 0 {
		n := min(rows, mostRows)
		g.margins(unsafe.Slice((*float32)(in), n*g.features), n, margins, keys)
		size := 4
		if g.wide {
			size = 8
			copy(unsafe.Slice((*float64)(out), n*g.groups), margins)
		} else {
			for i, x := range margins[:n*g.groups] {
				unsafe.Slice((*float32)(out), n*g.groups)[i] = float32(x)
			}
		}
		in, out = unsafe.Add(in, 4*n*g.features), unsafe.Add(out, size*n*g.groups)
		rows -= n
	}
}

// part is how many rows are worth a thread of their own, whatever that takes here.
func (*program) part(time.Duration) int { return mostRows }

// finish has no faster code than ensemble.Transform.
func (*program) finish(*ensemble.Ensemble, unsafe.Pointer, unsafe.Pointer, int) bool { return false }

// batchRows is 0: each row costs the same.
func (*program) batchRows() int { return 0 }

// Variant says that this is not one of the fast kernels.
func (*program) Variant() string { return "go" }

// Close has nothing to release.
func (*program) Close() {}

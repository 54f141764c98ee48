package forest

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// instance is one executor. It owns its scratch memory and does not care which thread calls it.
type instance struct {
	model   *model
	scratch *tensor.Buffer
	// margins and row are for models whose margins cannot lie where the predictions will be: of mostRows rows, and of
	// one row as the transform takes them.
	margins *tensor.Buffer
	row     []float64
}

// Run predicts the rows. See engine.Instance.
func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	m := i.model
	// The engine has seen to this; but what follows writes by address.
	if len(in) != 1 || len(out) != 1 || rows < 1 || in[0].Size() != 4*rows*m.features || out[0].Size() != 4*rows*m.outputs {
		return fmt.Errorf("%w: the tensors do not hold %d rows of the model", engine.ErrInvalidInput, rows)
	}
	from, to, scratch := tensor.Pointer(in[0]), tensor.Pointer(out[0]), unsafe.Pointer(unsafe.SliceData(i.scratch.Bytes()))
	if i.margins == nil {
		m.program.run(from, to, scratch, rows)
		m.transform(unsafe.Slice((*float32)(to), rows*m.outputs))
		return nil
	}
	margins := unsafe.Pointer(unsafe.SliceData(i.margins.Bytes()))
	for rows > 0 {
		n := min(rows, mostRows)
		m.program.run(from, margins, scratch, n)
		i.finish(margins, unsafe.Slice((*float32)(to), n*m.outputs), n)
		from, to = unsafe.Add(from, 4*n*m.features), unsafe.Add(to, 4*n*m.outputs)
		rows -= n
	}
	return nil
}

// transform turns float32 margins into predictions in place, each on its own, to the bits that ensemble.Transform gives.
func (m *model) transform(values []float32) {
	switch m.head.Objective.Transform {
	case ensemble.Identity:
	case ensemble.Sigmoid:
		for i, x := range values {
			values[i] = 1 / (float32(math.Exp(float64(min(-x, 88.7)))) + 1)
		}
	default:
		var one [1]float64
		for i, x := range values {
			one[0] = float64(x)
			m.head.Transform(one[:], m.rounds)
			values[i] = float32(one[0])
		}
	}
}

// finish turns the margins of n rows into predictions.
func (i *instance) finish(margins unsafe.Pointer, out []float32, n int) {
	m := i.model
	for r := range n {
		if m.wide {
			copy(i.row, unsafe.Slice((*float64)(margins), n*m.groups)[r*m.groups:])
		} else {
			for g, x := range unsafe.Slice((*float32)(margins), n*m.groups)[r*m.groups : (r+1)*m.groups] {
				i.row[g] = float64(x)
			}
		}
		m.head.Transform(i.row, m.rounds)
		for o := range m.outputs {
			out[r*m.outputs+o] = float32(i.row[o])
		}
	}
}

// Close releases the scratch memory.
func (i *instance) Close() error {
	i.scratch.Release()
	i.margins.Release()
	i.scratch, i.margins = nil, nil
	return nil
}

//go:build cgo && linux

package treelite

// #include "predict.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// instance is one executor: a row's worth of scratch memory, which it owns. It
// does not care which thread calls it.
type instance struct {
	model   *model
	scratch *tensor.Buffer
}

// Run predicts the rows in one call into C. See engine.Instance.
func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	m := i.model
	// The engine has seen to this; but what follows writes by address.
	if len(in) != 1 || len(out) != 1 || rows < 1 || in[0].Size()/4/rows != int(m.trees.features) || out[0].Size()/rows != m.outSize {
		return fmt.Errorf("%w: the tensors do not hold %d rows of the model", engine.ErrInvalidInput, rows)
	}
	wrong := C.picket_trees_run(m.trees, tensor.Pointer(in[0]), tensor.Pointer(out[0]),
		unsafe.Pointer(unsafe.SliceData(i.scratch.Bytes())), C.size_t(rows))
	if wrong != 0 {
		return fmt.Errorf("%w: %s gave a different number of values for row %d than for others", engine.ErrRun, m.library.Name(), wrong-1)
	}
	return nil
}

// Close releases the scratch memory.
func (i *instance) Close() error {
	i.scratch.Release()
	i.scratch = nil
	return nil
}

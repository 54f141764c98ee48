package dlr

import (
	"fmt"
	"unsafe"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// instance is one handle of libdlr, which it owns.
type instance struct {
	model  *model
	handle *cdlr.Model
	// shape is lent to libdlr for the call that sets an input.
	shape [tensor.MaxRank]int64
	// staging holds, per input, aligned memory for inputs that have to be copied
	// before libdlr reads them in place; nil until one has.
	staging []*tensor.Buffer
}

func newInstance(m *model, h *cdlr.Model) *instance { return &instance{model: m, handle: h} }

// Run sets the inputs, runs, and copies the outputs. See engine.Instance.
func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	m := i.model
	if err := fits(m.signature.Inputs, in, rows); err != nil {
		return err
	}
	if err := fits(m.signature.Outputs, out, rows); err != nil {
		return err
	}
	for n, t := range in {
		if err := i.set(n, t); err != nil {
			return fmt.Errorf("%w: %w", engine.ErrRun, err)
		}
	}
	if err := i.handle.Run(); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrRun, err)
	}
	for n, t := range out {
		// libdlr writes as much as it has, whatever room there is.
		size, _, err := i.handle.OutputSizeDim(n)
		if err != nil {
			return fmt.Errorf("%w: %w", engine.ErrRun, err)
		}
		if size != t.Shape.Elements() {
			return fmt.Errorf("%w: libdlr gave %d values for output %q, not %d", engine.ErrRun, size, t.Name, t.Shape.Elements())
		}
		if err := i.handle.Output(n, tensor.Pointer(t)); err != nil {
			return fmt.Errorf("%w: %w", engine.ErrRun, err)
		}
	}
	return nil
}

// set hands one input to libdlr: without a copy where it takes one so, and with
// its size where it can be told.
func (i *instance) set(n int, t tensor.Tensor) error {
	name := i.model.signature.Inputs[n].Name
	shape := t.Shape.AppendDims(i.shape[:0])
	p := tensor.Pointer(t)
	if i.model.kind == neo.Trees {
		// It goes by this name whatever the metadata calls it.
		return i.handle.SetInput(neo.TreeInput, shape, p)
	}
	code, bits, known := dlpackType(t.DType)
	if !known || !i.model.typed {
		return i.handle.SetInput(name, shape, p)
	}
	d := cdlr.Tensor{Data: p, DeviceType: cdlr.CPU, Code: code, Bits: bits, Lanes: 1, Shape: shape}
	if i.model.zeroCopy && uintptr(p)%tensor.Alignment == 0 {
		// libdlr remembers the address but reads it in Run alone, and every Run
		// comes after another set.
		return i.handle.SetInputTensorZeroCopy(name, d)
	}
	if i.model.zeroCopy {
		// Once an input was set without a copy, setting it with one has no effect.
		// So the copy is made here.
		b, err := i.staged(n, t)
		if err != nil {
			return err
		}
		d.Data = unsafe.Pointer(unsafe.SliceData(b.Bytes()))
		return i.handle.SetInputTensorZeroCopy(name, d)
	}
	return i.handle.SetInputTensor(name, d)
}

// staged is a copy of input n in aligned memory of the instance.
func (i *instance) staged(n int, t tensor.Tensor) (*tensor.Buffer, error) {
	if i.staging == nil {
		i.staging = make([]*tensor.Buffer, len(i.model.signature.Inputs))
	}
	if i.staging[n] == nil {
		b, err := tensor.Alloc(t.Size())
		if err != nil {
			return nil, err
		}
		i.staging[n] = b
	}
	copy(i.staging[n].Bytes(), t.Bytes())
	return i.staging[n], nil
}

// dlpackType is how DLPack calls an element type that libdlr takes.
func dlpackType(d tensor.DType) (code cdlr.TypeCode, bits uint8, known bool) {
	bits = uint8(8 * d.Size())
	switch d {
	case tensor.FP16, tensor.FP32, tensor.FP64:
		return cdlr.Float, bits, true
	case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64:
		return cdlr.Int, bits, true
	case tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64:
		return cdlr.Uint, bits, true
	}
	return 0, 0, false
}

// fits makes sure that libdlr, which reads and writes by address, stays within
// the tensors.
func fits(specs []engine.TensorSpec, tensors []tensor.Tensor, rows int) error {
	if len(specs) != len(tensors) {
		return fmt.Errorf("%w: %d tensors for %d of the model", engine.ErrInvalidInput, len(tensors), len(specs))
	}
	for n, spec := range specs {
		shape, err := spec.Shape(rows)
		if err != nil {
			return fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
		}
		if t := tensors[n]; t.DType != spec.DType || t.Shape.Elements() != shape.Elements() || rows < 1 {
			return fmt.Errorf("%w: tensor %q is not %d rows of the model's", engine.ErrInvalidInput, t.Name, rows)
		}
	}
	return nil
}

// Close deletes the handle.
func (i *instance) Close() error {
	err := i.handle.Close()
	for _, b := range i.staging {
		b.Release()
	}
	return err
}

//go:build cgo && linux

package cdlr

/*
#include <stdlib.h>
#include <string.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// NumOutputs is GetDLRNumOutputs (since 1.0). A tree model has one.
func (m *Model) NumOutputs() (int, error) {
	const name = "GetDLRNumOutputs"
	if err := m.ready(name, true); err != nil {
		return 0, err
	}
	return goInt(name, C.picket_dlr_num_outputs(m.c(), m.handle))
}

// OutputType is GetDLROutputType (since 1.2): "float32", "int64", …; "json" if the model transforms its output.
func (m *Model) OutputType(index int) (string, error) {
	const name = "GetDLROutputType"
	if err := m.ready(name, m.c().GetDLROutputType != nil); err != nil {
		return "", err
	}
	if err := m.checkOutput(name, index); err != nil {
		return "", err
	}
	return goText(name, C.picket_dlr_output_type(m.c(), m.handle, C.int(index)))
}

// OutputName is GetDLROutputName (since 1.2): the output's name in the original model, from compiled.meta. Tree models and
// models without metadata have none; the error then has no Message.
func (m *Model) OutputName(index int) (string, error) {
	const name = "GetDLROutputName"
	if err := m.ready(name, m.c().GetDLROutputName != nil); err != nil {
		return "", err
	}
	if err := m.checkOutput(name, index); err != nil {
		return "", err
	}
	return goText(name, C.picket_dlr_output_name(m.c(), m.handle, C.int(index)))
}

// OutputIndex is GetDLROutputIndex (since 1.2): the reverse of [Model.OutputName].
func (m *Model) OutputIndex(output string) (int, error) {
	const name = "GetDLROutputIndex"
	if err := m.ready(name, m.c().GetDLROutputIndex != nil); err != nil {
		return 0, err
	}
	if err := checkText("output's name", output); err != nil {
		return 0, err
	}
	text, length := cText(output)
	return goInt(name, C.picket_dlr_output_index(m.c(), m.handle, text, length))
}

// OutputSizeDim is GetDLROutputSizeDim (since 1.0): the number of elements of an output, -1 while it is not known, and its
// number of dimensions. A tree model's size follows the rows of its last input; it is unknown before the first.
func (m *Model) OutputSizeDim(index int) (size int64, dim int, err error) {
	const name = "GetDLROutputSizeDim"
	if err := m.ready(name, m.c().GetDLROutputSizeDim != nil); err != nil {
		return 0, 0, err
	}
	if err := m.checkOutput(name, index); err != nil {
		return 0, 0, err
	}
	return goSize(name, C.picket_dlr_output_size(m.c(), m.handle, C.int(index)))
}

// AppendOutputShape is GetDLROutputShape (since 1.0): it appends the dimensions of an output to dst, -1 for one that is not
// known yet. It asks GetDLROutputSizeDim how many there are, for GetDLROutputShape writes them all, unasked.
func (m *Model) AppendOutputShape(dst []int64, index int) ([]int64, error) {
	const name = "GetDLROutputShape"
	if err := m.ready(name, m.c().GetDLROutputShape != nil); err != nil {
		return dst, err
	}
	_, dim, err := m.OutputSizeDim(index)
	if err != nil {
		return dst, err
	}
	dst, room := grow(dst, dim)
	if problem := C.picket_dlr_output_shape(m.c(), m.handle, C.int(index), cShape(room)); problem != nil {
		return dst[:len(dst)-dim], newError(name, problem)
	}
	return dst, nil
}

// Output is GetDLROutput (since 1.0): it copies an output to data, which must have room for the elements that
// [Model.OutputSizeDim] counts, of the output's type. data is borrowed for the call, and may be Go memory.
func (m *Model) Output(index int, data unsafe.Pointer) error {
	const name = "GetDLROutput"
	if err := m.ready(name, m.c().GetDLROutput != nil); err != nil {
		return err
	}
	if err := m.checkOutput(name, index); err != nil {
		return err
	}
	return optionalError(name, C.picket_dlr_output(m.c(), m.handle, C.int(index), data))
}

// OutputByName is GetDLROutputByName (since 1.2): [Model.Output] by the name in the metadata.
func (m *Model) OutputByName(output string, data unsafe.Pointer) error {
	const name = "GetDLROutputByName"
	if err := m.ready(name, m.c().GetDLROutputByName != nil); err != nil {
		return err
	}
	if err := checkText("output's name", output); err != nil {
		return err
	}
	text, length := cText(output)
	return optionalError(name, C.picket_dlr_output_by_name(m.c(), m.handle, text, length, data))
}

// OutputPtr is GetDLROutputPtr (since 1.5): the address of an output in the model's own memory, to be read only, until
// the next SetInput, Run or Close. Models on another device than the CPU refuse it.
func (m *Model) OutputPtr(index int) (unsafe.Pointer, error) {
	const name = "GetDLROutputPtr"
	if err := m.ready(name, m.c().GetDLROutputPtr != nil); err != nil {
		return nil, err
	}
	if err := m.checkOutput(name, index); err != nil {
		return nil, err
	}
	r := C.picket_dlr_output_pointer(m.c(), m.handle, C.int(index))
	if r.problem != nil {
		return nil, newError(name, r.problem)
	}
	return r.value, nil
}

// OutputTensor is GetDLROutputTensor (since 1.6): it copies an output to memory on any device, for TVM and Relay VM models
// only. The tensor must have the output's shape and type; it is borrowed for the call.
func (m *Model) OutputTensor(index int, t Tensor) error {
	const name = "GetDLROutputTensor"
	if err := m.ready(name, m.c().GetDLROutputTensor != nil); err != nil {
		return err
	}
	if err := m.checkOutput(name, index); err != nil {
		return err
	}
	if err := checkShape(name, t.Shape); err != nil {
		return err
	}
	return optionalError(name, C.picket_dlr_output_tensor(m.c(), m.handle, C.int(index), cTensor(t), cShape(t.Shape)))
}

// OutputManagedTensor is GetDLROutputManagedTensorPtr (since 1.6): a counted reference to an output in the model's memory,
// for TVM and Relay VM models only. The caller must Close it. It may outlive the model, but the next Run writes to
// the same memory.
func (m *Model) OutputManagedTensor(index int) (*ManagedTensor, error) {
	const name = "GetDLROutputManagedTensorPtr"
	if err := m.ready(name, m.c().GetDLROutputManagedTensorPtr != nil); err != nil {
		return nil, err
	}
	if err := m.checkOutput(name, index); err != nil {
		return nil, err
	}
	r := C.picket_dlr_output_managed_tensor(m.c(), m.handle, C.int(index))
	if r.problem != nil {
		return nil, newError(name, r.problem)
	}
	if r.value == nil {
		return nil, &Error{Function: name, Message: "it succeeded without a tensor"}
	}
	c := &(*C.picket_managed_tensor)(r.value).tensor
	if c.ndim < 0 || c.ndim > maxDim {
		C.picket_dlr_delete_managed_tensor(r.value)
		return nil, &Error{Function: name, Message: fmt.Sprintf("the tensor has %d dimensions", int(c.ndim))}
	}
	t := &ManagedTensor{raw: r.value, Tensor: Tensor{
		Data: c.data, DeviceType: int32(c.device_type), DeviceID: int32(c.device_id),
		Code: TypeCode(c.code), Bits: uint8(c.bits), Lanes: uint16(c.lanes), ByteOffset: uint64(c.byte_offset),
	}}
	for _, d := range unsafe.Slice(c.shape, c.ndim) {
		t.Shape = append(t.Shape, int64(d))
	}
	return t, nil
}

// Close gives the reference back, by the tensor's own deleter. The second and further calls do nothing.
func (t *ManagedTensor) Close() {
	if t.raw != nil {
		C.picket_dlr_delete_managed_tensor(t.raw)
		t.raw, t.Data = nil, nil
	}
}

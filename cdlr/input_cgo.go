//go:build cgo && linux

package cdlr

/*
#include <stdlib.h>
#include <string.h>
#include "shim.h"
*/
import "C"

import "unsafe"

// NumInputs is GetDLRNumInputs (since 1.0). A tree model has one.
func (m *Model) NumInputs() (int, error) {
	const name = "GetDLRNumInputs"
	if err := m.ready(name, true); err != nil {
		return 0, err
	}
	return goInt(name, C.picket_dlr_num_inputs(m.c(), m.handle))
}

// InputName is GetDLRInputName (since 1.0). A tree model's input is called "data".
func (m *Model) InputName(index int) (string, error) {
	const name = "GetDLRInputName"
	if err := m.ready(name, m.c().GetDLRInputName != nil); err != nil {
		return "", err
	}
	return goText(name, C.picket_dlr_input_name(m.c(), m.handle, C.int(index)))
}

// InputType is GetDLRInputType (since 1.2): "float32", "int64", …; "json" if the model transforms its input.
func (m *Model) InputType(index int) (string, error) {
	const name = "GetDLRInputType"
	if err := m.ready(name, m.c().GetDLRInputType != nil); err != nil {
		return "", err
	}
	return goText(name, C.picket_dlr_input_type(m.c(), m.handle, C.int(index)))
}

// InputSizeDim is GetDLRInputSizeDim (since 1.4): the number of elements of an input, -1 if its shape is not fixed, and
// its number of dimensions. A tree model's size is unknown until its first input is set.
func (m *Model) InputSizeDim(index int) (size int64, dim int, err error) {
	const name = "GetDLRInputSizeDim"
	if err := m.ready(name, m.c().GetDLRInputSizeDim != nil); err != nil {
		return 0, 0, err
	}
	return goSize(name, C.picket_dlr_input_size(m.c(), m.handle, C.int(index)))
}

// AppendInputShape is GetDLRInputShape (since 1.4): it appends the dimensions of an input to dst, -1 for one that is not
// fixed. It asks GetDLRInputSizeDim how many there are, for GetDLRInputShape writes them all, unasked.
func (m *Model) AppendInputShape(dst []int64, index int) ([]int64, error) {
	const name = "GetDLRInputShape"
	if err := m.ready(name, m.c().GetDLRInputShape != nil); err != nil {
		return dst, err
	}
	_, dim, err := m.InputSizeDim(index)
	if err != nil {
		return dst, err
	}
	dst, room := grow(dst, dim)
	if problem := C.picket_dlr_input_shape(m.c(), m.handle, C.int(index), cShape(room)); problem != nil {
		return dst[:len(dst)-dim], newError(name, problem)
	}
	return dst, nil
}

// SetInput is SetDLRInput (since 1.0): it copies an input. It reads as many elements of the input's type as shape
// multiplies to; data is borrowed for the call, and may be Go memory without pointers.
//
// A tree model takes any number of rows and ignores the input's name; fewer columns than features are filled up with
// missing values. A TVM model wants the number of elements it was compiled for.
func (m *Model) SetInput(input string, shape []int64, data unsafe.Pointer) error {
	const name = "SetDLRInput"
	if err := m.ready(name, m.c().SetDLRInput != nil); err != nil {
		return err
	}
	if err := checkText("input's name", input); err != nil {
		return err
	}
	if err := checkShape(name, shape); err != nil {
		return err
	}
	text, length := cText(input)
	return optionalError(name, C.picket_dlr_set_input(m.c(), m.handle, text, length, cShape(shape), data, C.int(len(shape))))
}

// SetInputTensor is SetDLRInputTensor (since 1.6): SetInput from memory on any device, for TVM and Relay VM models only.
// The tensor is borrowed for the call. Names that the model lacks are ignored by TVM models.
func (m *Model) SetInputTensor(input string, t Tensor) error {
	const name = "SetDLRInputTensor"
	if err := m.ready(name, m.c().SetDLRInputTensor != nil); err != nil {
		return err
	}
	if err := checkText("input's name", input); err != nil {
		return err
	}
	if err := checkShape(name, t.Shape); err != nil {
		return err
	}
	text, length := cText(input)
	return optionalError(name, C.picket_dlr_set_input_tensor(m.c(), m.handle, text, length, cTensor(t), cShape(t.Shape)))
}

// SetInputTensorZeroCopy is SetDLRInputTensorZeroCopy (since 1.8): it makes a TVM model read its input where it lies. The
// memory must be aligned to 128 bytes, on the model's device, of exactly the input's shape and type.
//
// The model keeps t.Data until it is closed or another call for the same input replaces it, and reads it in every Run.
// So it must lie outside the Go heap and outlive that; whoever owns it frees it. t.Shape is borrowed for the call,
// t.ByteOffset ignored. Afterwards, [Model.SetInput] for that input has no effect on Run, and [Model.Input]
// does not see the data. Names that the model lacks are ignored.
func (m *Model) SetInputTensorZeroCopy(input string, t Tensor) error {
	const name = "SetDLRInputTensorZeroCopy"
	if err := m.ready(name, m.c().SetDLRInputTensorZeroCopy != nil); err != nil {
		return err
	}
	if err := checkText("input's name", input); err != nil {
		return err
	}
	if err := checkShape(name, t.Shape); err != nil {
		return err
	}
	text, length := cText(input)
	return optionalError(name, C.picket_dlr_set_input_zero_copy(m.c(), m.handle, text, length, cTensor(t), cShape(t.Shape)))
}

// Input is GetDLRInput (since 1.1): it copies the current value of an input to data, which must have room for all its
// elements. Tree models refuse it.
func (m *Model) Input(input string, data unsafe.Pointer) error {
	const name = "GetDLRInput"
	if err := m.ready(name, m.c().GetDLRInput != nil); err != nil {
		return err
	}
	if err := checkText("input's name", input); err != nil {
		return err
	}
	text, length := cText(input)
	return optionalError(name, C.picket_dlr_input(m.c(), m.handle, text, length, data))
}

// grow makes room for n more dimensions, without allocating where the capacity allows.
func grow(dst []int64, n int) (whole, added []int64) {
	before := len(dst)
	for range n {
		dst = append(dst, 0)
	}
	return dst, dst[before:]
}

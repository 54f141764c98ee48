package cdlr

import "unsafe"

// A Tensor describes memory that the caller owns, as a DLTensor of DLPack. It is compact and row-major: no strides.
type Tensor struct {
	// Data points to the first byte.
	Data unsafe.Pointer
	// DeviceType and DeviceID say where Data lies: [CPU], 0 for ordinary memory.
	DeviceType, DeviceID int32
	// Code, Bits and Lanes are the element type: [Float], 32, 1 for float32.
	Code  TypeCode
	Bits  uint8
	Lanes uint16
	// Shape has at most 32 dimensions.
	Shape []int64
	// ByteOffset is added to Data by libdlr where it copies; SetInputTensorZeroCopy ignores it.
	ByteOffset uint64
}

// A TypeCode is the class of a tensor's elements in DLPack.
type TypeCode uint8

// Classes of elements.
const (
	Int      TypeCode = 0
	Uint     TypeCode = 1
	Float    TypeCode = 2
	Bfloat16 TypeCode = 4
)

// A ManagedTensor is a DLManagedTensor that libdlr made: a reference to memory of a model, from
// [Model.OutputManagedTensor]. It belongs to the caller, who must call Close.
type ManagedTensor struct {
	Tensor
	raw unsafe.Pointer
}

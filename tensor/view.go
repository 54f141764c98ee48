package tensor

import (
	"fmt"
	"unsafe"
)

// Element is the Go types that a tensor's elements can be seen as. FP16 and
// BF16 are seen as their uint16 bit patterns.
type Element interface {
	bool | uint8 | uint16 | uint32 | uint64 | int8 | int16 | int32 | int64 | float32 | float64
}

// elementType is the DType that T is the native form of.
func elementType[T Element]() DType {
	var zero T
	switch any(zero).(type) {
	case bool:
		return Bool
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	case uint64:
		return Uint64
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64:
		return Int64
	case float32:
		return FP32
	case float64:
		return FP64
	}
	return Invalid
}

// View is the elements of t as a slice of the same memory: no copy, and valid
// only while a reference on t's Buffer is held. T must be the native form of
// t's element type (uint16 also for FP16 and BF16).
func View[T Element](t Tensor) ([]T, error) {
	want := elementType[T]()
	if t.DType != want && (want != Uint16 || (t.DType != FP16 && t.DType != BF16)) {
		return nil, fmt.Errorf("tensor %q holds %s, it cannot be seen as %s", t.Name, t.DType, want)
	}
	b := t.Bytes()
	if len(b) == 0 {
		return nil, nil
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	var zero T
	if uintptr(p)%unsafe.Alignof(zero) != 0 {
		return nil, fmt.Errorf("tensor %q starts at an address that is not aligned for %s", t.Name, t.DType)
	}
	return unsafe.Slice((*T)(p), len(b)/int(unsafe.Sizeof(zero))), nil
}

// Pointer is the address of t's first byte, for native code. It is nil for an
// empty tensor and valid only while a reference on t's Buffer is held.
func Pointer(t Tensor) unsafe.Pointer {
	b := t.Bytes()
	if len(b) == 0 {
		return nil
	}
	return unsafe.Pointer(unsafe.SliceData(b))
}

// AsBytes is the memory of s as bytes: no copy. It is for encoding slices of
// numbers that already lie in little-endian memory, as on every machine this
// project runs on.
func AsBytes[T Element](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(zero)))
}

// Package gorgonia shows Picket's tensors as those of gorgonia.org/tensor and
// the other way round, over the same bytes.
//
// gorgonia.org/tensor 0.9.24 needs go4.org/unsafe/assume-no-moving-gc at its commit
// of 2023-11-21, which go.mod pins: with the one it asks for itself, programs panic
// at start on today's Go.
package gorgonia

import (
	"fmt"

	"github.com/picket-ml/picket/tensor"
	gorgonia "gorgonia.org/tensor"
)

// dtypes pairs the element types that both sides have.
var dtypes = [...]struct {
	ours   tensor.DType
	theirs gorgonia.Dtype
}{
	{tensor.Bool, gorgonia.Bool},
	{tensor.Uint8, gorgonia.Uint8},
	{tensor.Uint16, gorgonia.Uint16},
	{tensor.Uint32, gorgonia.Uint32},
	{tensor.Uint64, gorgonia.Uint64},
	{tensor.Int8, gorgonia.Int8},
	{tensor.Int16, gorgonia.Int16},
	{tensor.Int32, gorgonia.Int32},
	{tensor.Int64, gorgonia.Int64},
	{tensor.FP32, gorgonia.Float32},
	{tensor.FP64, gorgonia.Float64},
}

// Dense is t as a dense tensor of gorgonia: the same memory, no copy. The
// caller keeps a reference on t's Buffer for as long as it uses the result.
// FP16, BF16 and BYTES have no counterpart and are refused, and so is a tensor
// without elements.
func Dense(t tensor.Tensor) (*gorgonia.Dense, error) {
	for _, d := range dtypes {
		if d.ours != t.DType {
			continue
		}
		if t.Size() == 0 {
			return nil, fmt.Errorf("viewing tensor %q: it has no elements", t.Name)
		}
		dims := make([]int, t.Shape.Rank())
		for i := range dims {
			dims[i] = int(t.Shape.Dim(i))
		}
		return gorgonia.New(gorgonia.Of(d.theirs), gorgonia.WithShape(dims...),
			gorgonia.FromMemory(uintptr(tensor.Pointer(t)), uintptr(t.Size()))), nil
	}
	return nil, fmt.Errorf("viewing tensor %q: gorgonia has no element type for %s", t.Name, t.DType)
}

// FromDense is d as a Tensor over the same memory, no copy. Its Buffer has one
// reference, the caller's; until the last one is released it keeps d from being
// collected. d must be contiguous and row major. Memory that d took from the Go
// heap stays Go memory: such a Tensor may be read and copied by Go code but not
// handed to a model, whose native code needs the off-heap memory that
// tensor.New gives.
func FromDense(name string, d *gorgonia.Dense) (tensor.Tensor, error) {
	if d.RequiresIterator() || !d.DataOrder().IsRowMajor() || !d.DataOrder().IsContiguous() {
		return tensor.Tensor{}, fmt.Errorf("viewing dense tensor %q: its elements are not contiguous and row major; materialise it first", name)
	}
	dims := make([]int64, len(d.Shape()))
	for i, n := range d.Shape() {
		dims[i] = int64(n)
	}
	shape, err := tensor.NewShape(dims...)
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("viewing dense tensor %q: %w", name, err)
	}
	dtype, memory := elements(d.Data())
	if dtype == tensor.Invalid {
		return tensor.Tensor{}, fmt.Errorf("viewing dense tensor %q: %s elements of shape %v are not what the Open Inference Protocol knows", name, d.Dtype(), d.Shape())
	}
	// The closure is what keeps d reachable while the Buffer lives.
	b := tensor.Wrap(memory, func() { d = nil })
	t, err := tensor.In(name, dtype, shape, b, 0)
	if err != nil {
		b.Release()
		return tensor.Tensor{}, err
	}
	return t, nil
}

// elements is the type and the memory of a slice of numbers, Invalid for
// anything else.
func elements(data any) (tensor.DType, []byte) {
	switch v := data.(type) {
	case []bool:
		return tensor.Bool, tensor.AsBytes(v)
	case []uint8:
		return tensor.Uint8, v
	case []uint16:
		return tensor.Uint16, tensor.AsBytes(v)
	case []uint32:
		return tensor.Uint32, tensor.AsBytes(v)
	case []uint64:
		return tensor.Uint64, tensor.AsBytes(v)
	case []int8:
		return tensor.Int8, tensor.AsBytes(v)
	case []int16:
		return tensor.Int16, tensor.AsBytes(v)
	case []int32:
		return tensor.Int32, tensor.AsBytes(v)
	case []int64:
		return tensor.Int64, tensor.AsBytes(v)
	case []float32:
		return tensor.FP32, tensor.AsBytes(v)
	case []float64:
		return tensor.FP64, tensor.AsBytes(v)
	}
	return tensor.Invalid, nil
}

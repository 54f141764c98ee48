package ensemble

import (
	"errors"
	"fmt"
)

// Numbers of fields in ONNX's AttributeProto and TensorProto.
const (
	onnxAttrName, onnxAttrInt, onnxAttrText, onnxAttrTensor = 1, 3, 4, 5
	onnxAttrFloats, onnxAttrInts, onnxAttrTexts             = 7, 8, 9
	onnxTensorDims, onnxTensorType, onnxTensorFloats        = 1, 2, 4
	onnxTensorRaw, onnxTensorDoubles, onnxTensorPlace       = 9, 10, 14
)

// onnxAttribute is one attribute of an operator, with the one value it has.
type onnxAttribute struct {
	name    string
	number  uint64
	text    string
	ints    []int32
	floats  []float64 // of a list of float32, or of a tensor of float32 or float64
	texts   [][]byte  // parts of the file, not copies
	element uint64    // of the tensor, else 0
}

// newONNXAttribute decodes an attribute. It goes over the bytes twice: lists may come in pieces, and are counted before
// memory is taken.
func newONNXAttribute(b []byte) (*onnxAttribute, error) {
	a := &onnxAttribute{}
	ints, floats, texts := 0, 0, 0
	err := wireFields(b, func(f wireField) error {
		switch f.number {
		case onnxAttrInts:
			ints += f.integers()
		case onnxAttrFloats:
			floats += f.floats(4)
		case onnxAttrTexts:
			texts++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if ints > 0 {
		a.ints = make([]int32, 0, ints)
	}
	if floats > 0 {
		a.floats = make([]float64, 0, floats)
	}
	if texts > 0 {
		a.texts = make([][]byte, 0, texts)
	}
	err = wireFields(b, func(f wireField) (err error) {
		var part []byte
		switch f.number {
		case onnxAttrName:
			a.name, err = f.text()
		case onnxAttrInt:
			a.number = f.bits
		case onnxAttrText:
			a.text, err = f.text()
		case onnxAttrInts:
			a.ints, err = f.appendInts(a.ints)
		case onnxAttrFloats:
			a.floats, err = f.appendFloats(a.floats, 4)
		case onnxAttrTexts:
			part, err = f.message()
			a.texts = append(a.texts, part)
		case onnxAttrTensor:
			if part, err = f.message(); err == nil {
				err = a.tensor(part)
			}
		}
		return err
	})
	if err != nil && a.name != "" {
		err = fmt.Errorf("attribute %s: %w", quote(a.name), err)
	}
	return a, err
}

// tensor decodes a tensor of one dimension into floats.
func (a *onnxAttribute) tensor(b []byte) error {
	if a.element != 0 {
		return errors.New("it holds two tensors")
	}
	dims, n, sized := 0, uint64(0), wireField{}
	err := wireFields(b, func(f wireField) error {
		switch f.number {
		case onnxTensorDims:
			if f.integers() != 1 {
				return errors.New("the tensor has not one dimension")
			}
			found, err := f.appendInts(nil)
			if err != nil || len(found) != 1 || found[0] < 0 {
				return errors.New("the tensor's dimension is out of range")
			}
			dims++
			n = uint64(found[0])
		case onnxTensorType:
			a.element = f.bits
		case onnxTensorPlace:
			if f.bits != 0 {
				return unsupported("the tensor lies in another file, which is not supported")
			}
		case onnxTensorRaw, onnxTensorFloats, onnxTensorDoubles:
			if sized.number != 0 && (sized.number != f.number || f.number == onnxTensorRaw) {
				return errors.New("the tensor has its numbers twice")
			}
			sized.number = f.number
		}
		return nil
	})
	size := map[uint64]int{onnxFloat: 4, onnxDouble: 8}[a.element]
	switch {
	case err != nil:
		return err
	case size == 0:
		return fmt.Errorf("the tensor has elements of type %d; float and double are supported", a.element)
	case dims > 1:
		return errors.New("the tensor has not one dimension")
	case dims == 0:
		n = 1
	case n > uint64(len(b)/size):
		return fmt.Errorf("the tensor should have %d elements, more than its bytes hold", n)
	case sized.number == onnxTensorFloats && size != 4, sized.number == onnxTensorDoubles && size != 8:
		return errors.New("the tensor's numbers are of another type than it says")
	}
	a.floats = make([]float64, 0, n)
	err = wireFields(b, func(f wireField) (err error) {
		switch f.number {
		case onnxTensorRaw, onnxTensorFloats, onnxTensorDoubles:
			if uint64(len(a.floats)+f.floats(size)) > n {
				return fmt.Errorf("the tensor has more than %d elements", n)
			}
			a.floats, err = f.appendFloats(a.floats, size)
		}
		return err
	})
	if err == nil && uint64(len(a.floats)) != n {
		err = fmt.Errorf("the tensor has %d elements; there should be %d", len(a.floats), n)
	}
	return err
}

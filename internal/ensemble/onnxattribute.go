package ensemble

import (
	"errors"
	"fmt"

	"github.com/picket-ml/picket/internal/onnxwire"
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
	err := onnxwire.Fields(b, func(f onnxwire.Field) error {
		switch f.Number {
		case onnxAttrInts:
			ints += f.Integers()
		case onnxAttrFloats:
			floats += f.Floats(4)
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
	err = onnxwire.Fields(b, func(f onnxwire.Field) (err error) {
		var part []byte
		switch f.Number {
		case onnxAttrName:
			a.name, err = f.Text()
		case onnxAttrInt:
			a.number = f.Bits
		case onnxAttrText:
			a.text, err = f.Text()
		case onnxAttrInts:
			a.ints, err = f.AppendInts(a.ints)
		case onnxAttrFloats:
			a.floats, err = f.AppendFloats(a.floats, 4)
		case onnxAttrTexts:
			part, err = f.Message()
			a.texts = append(a.texts, part)
		case onnxAttrTensor:
			if part, err = f.Message(); err == nil {
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
	dims, n, sized := 0, uint64(0), onnxwire.Field{}
	err := onnxwire.Fields(b, func(f onnxwire.Field) error {
		switch f.Number {
		case onnxTensorDims:
			if f.Integers() != 1 {
				return errors.New("the tensor has not one dimension")
			}
			found, err := f.AppendInts(nil)
			if err != nil || len(found) != 1 || found[0] < 0 {
				return errors.New("the tensor's dimension is out of range")
			}
			dims++
			n = uint64(found[0])
		case onnxTensorType:
			a.element = f.Bits
		case onnxTensorPlace:
			if f.Bits != 0 {
				return unsupported("the tensor lies in another file, which is not supported")
			}
		case onnxTensorRaw, onnxTensorFloats, onnxTensorDoubles:
			if sized.Number != 0 && (sized.Number != f.Number || f.Number == onnxTensorRaw) {
				return errors.New("the tensor has its numbers twice")
			}
			sized.Number = f.Number
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
	case sized.Number == onnxTensorFloats && size != 4, sized.Number == onnxTensorDoubles && size != 8:
		return errors.New("the tensor's numbers are of another type than it says")
	}
	a.floats = make([]float64, 0, n)
	err = onnxwire.Fields(b, func(f onnxwire.Field) (err error) {
		switch f.Number {
		case onnxTensorRaw, onnxTensorFloats, onnxTensorDoubles:
			if uint64(len(a.floats)+f.Floats(size)) > n {
				return fmt.Errorf("the tensor has more than %d elements", n)
			}
			a.floats, err = f.AppendFloats(a.floats, size)
		}
		return err
	})
	if err == nil && uint64(len(a.floats)) != n {
		err = fmt.Errorf("the tensor has %d elements; there should be %d", len(a.floats), n)
	}
	return err
}

package agent

import (
	"math"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/tensor"
)

// dataTypes are the interface's names for element types. It has no name for
// half of them; those go under the name of a type of the same width, so that a
// client that allocates by it allocates the right number of bytes. The bits are
// never converted.
var dataTypes = [...]agentapi.DataType{
	tensor.Bool:   agentapi.DataType_UINT8,
	tensor.Uint8:  agentapi.DataType_UINT8,
	tensor.Int8:   agentapi.DataType_UINT8,
	tensor.Uint16: agentapi.DataType_INT16,
	tensor.Int16:  agentapi.DataType_INT16,
	tensor.BF16:   agentapi.DataType_INT16, // not FLOAT16: its bits mean other numbers
	tensor.FP16:   agentapi.DataType_FLOAT16,
	tensor.Uint32: agentapi.DataType_INT32,
	tensor.Int32:  agentapi.DataType_INT32,
	tensor.Uint64: agentapi.DataType_INT64,
	tensor.Int64:  agentapi.DataType_INT64,
	tensor.FP32:   agentapi.DataType_FLOAT32,
	tensor.FP64:   agentapi.DataType_FLOAT64,
}

// dataType is the interface's name for d. The engine loads no model with
// another type: tensor.Bytes has no fixed size.
func dataType(d tensor.DType) agentapi.DataType { return dataTypes[d] }

// elementSize is the number of bytes of one element as the client named it, 0
// for a number that is no type of the interface.
func elementSize(d agentapi.DataType) int {
	switch d {
	case agentapi.DataType_UINT8:
		return 1
	case agentapi.DataType_INT16, agentapi.DataType_FLOAT16:
		return 2
	case agentapi.DataType_INT32, agentapi.DataType_FLOAT32:
		return 4
	case agentapi.DataType_INT64, agentapi.DataType_FLOAT64:
		return 8
	}
	return 0
}

// describe is a model as the interface lists it, tensors in the model's order.
func describe(d engine.Description) *agentapi.Model {
	return &agentapi.Model{
		// A client can only send valid UTF-8, the configuration may not.
		Url:                   failure.ValidText(d.URL),
		Name:                  d.Name,
		InputTensorMetadatas:  describeSpecs(d.Signature.Inputs),
		OutputTensorMetadatas: describeSpecs(d.Signature.Outputs),
	}
}

func describeSpecs(specs []engine.TensorSpec) []*agentapi.TensorMetadata {
	out := make([]*agentapi.TensorMetadata, len(specs))
	for i, spec := range specs {
		out[i] = &agentapi.TensorMetadata{
			Name:     []byte(failure.ValidText(spec.Name)),
			DataType: dataType(spec.DType),
			Shape:    make([]int32, len(spec.Dims)),
		}
		for j, dim := range spec.Dims {
			out[i].Shape[j] = dimension(dim)
		}
	}
	return out
}

// dimension is a dimension in the interface's 32 bits. One that does not fit is
// given as -1, which is true of it: it follows from the number of bytes.
func dimension(d int64) int32 {
	if d > math.MaxInt32 {
		return -1
	}
	return int32(d)
}

// answer is an output as the interface sends it. The bytes are a copy: gRPC
// encodes the answer only after the handler has returned.
func answer(t tensor.Tensor) *agentapi.Tensor {
	shape := make([]int32, t.Shape.Rank())
	for i := range shape {
		shape[i] = dimension(t.Shape.Dim(i))
	}
	return &agentapi.Tensor{
		TensorMetadata: &agentapi.TensorMetadata{
			Name:     []byte(failure.ValidText(t.Name)),
			DataType: dataType(t.DType),
			Shape:    shape,
		},
		Data: &agentapi.Tensor_ByteData{ByteData: append([]byte{}, t.Bytes()...)},
	}
}

// elementType is the type that a client has named, which is one of the interface.
func elementType(d agentapi.DataType) tensor.DType {
	switch d {
	case agentapi.DataType_UINT8:
		return tensor.Uint8
	case agentapi.DataType_INT16:
		return tensor.Int16
	case agentapi.DataType_INT32:
		return tensor.Int32
	case agentapi.DataType_INT64:
		return tensor.Int64
	case agentapi.DataType_FLOAT16:
		return tensor.FP16
	case agentapi.DataType_FLOAT32:
		return tensor.FP32
	case agentapi.DataType_FLOAT64:
		return tensor.FP64
	}
	return tensor.Invalid
}

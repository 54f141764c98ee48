package main

import (
	"fmt"
	"strings"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/tensor"
)

// spec is one input or output of a model as commands print it.
type spec struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"` // as the Open Inference Protocol names it
	Shape []int32 `json:"shape"` // -1 for the number of rows
}

func specsOf(metadata []*agentapi.TensorMetadata) []spec {
	specs := make([]spec, len(metadata))
	for i, m := range metadata {
		specs[i] = spec{Name: string(m.GetName()), DType: dtypeOf(m.GetDataType()).String(), Shape: append([]int32{}, m.GetShape()...)}
	}
	return specs
}

// String is the form of a listing: "data FP32 [-1, 30]".
func (s spec) String() string {
	return fmt.Sprintf("%s %s [%s]", s.Name, s.DType, strings.Trim(strings.ReplaceAll(fmt.Sprint(s.Shape), " ", ", "), "[]"))
}

// joinSpecs is several specs on one line.
func joinSpecs(specs []spec) string {
	parts := make([]string, len(specs))
	for i, s := range specs {
		parts[i] = s.String()
	}
	return strings.Join(parts, ", ")
}

// dtypeOf is the element type that the agent's interface names; Invalid for one that it does not have.
func dtypeOf(d agentapi.DataType) tensor.DType {
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

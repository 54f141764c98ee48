package main

import (
	"fmt"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/rows"
)

// maxRowElements bounds a row: what a request could carry at the very most.
const maxRowElements = 1 << 31

// batch gathers the rows of one request and is used again for the next.
type batch struct {
	model  *agentapi.Model
	inputs []rows.Input
	most   int // rows
	rows   int
	data   [][]byte // of each input
}

// newBatch makes a batch of most rows of the model, or of fewer where they are large.
func newBatch(m *agentapi.Model, most int) (*batch, error) {
	b := &batch{model: m, most: most, data: make([][]byte, len(m.GetInputTensorMetadatas()))}
	rowBytes := 0
	for _, metadata := range m.GetInputTensorMetadatas() {
		in := rows.Input{Name: string(metadata.GetName()), DType: dtypeOf(metadata.GetDataType()), Elements: 1}
		shape := metadata.GetShape()
		if len(shape) > 0 && shape[0] == -1 {
			shape = shape[1:]
		} else {
			b.most = 1 // the tensor has no rows to put more of into it
		}
		for _, dim := range shape {
			if dim <= 0 || in.Elements > maxRowElements/int(dim) {
				return nil, fmt.Errorf("input %q has the shape %v, of which no row can be written as text", in.Name, metadata.GetShape())
			}
			in.Elements *= int(dim)
		}
		rowBytes += in.Elements * in.DType.Size()
		b.inputs = append(b.inputs, in)
	}
	if rowBytes > 0 {
		b.most = min(b.most, max(1, maxRequestBytes/rowBytes))
	}
	return b, nil
}

// fill replaces the rows with the next ones. After an error the batch has the rows before it.
func (b *batch) fill(from *rows.Reader) error {
	for i := range b.data {
		b.data[i] = b.data[i][:0]
	}
	for b.rows = 0; b.rows < b.most; b.rows++ {
		if err := from.Read(b.data); err != nil {
			return err
		}
	}
	return nil
}

// request is the question for the rows. It shares their memory, so it is good until the next fill.
func (b *batch) request() *agentapi.PredictRequest {
	in := &agentapi.PredictRequest{Name: b.model.GetName()}
	for i, metadata := range b.model.GetInputTensorMetadatas() {
		shape := append([]int32{}, metadata.GetShape()...)
		if len(shape) > 0 && shape[0] == -1 {
			shape[0] = int32(b.rows)
		}
		in.Tensors = append(in.Tensors, &agentapi.Tensor{
			TensorMetadata: &agentapi.TensorMetadata{Name: metadata.GetName(), DataType: metadata.GetDataType(), Shape: shape},
			Data:           &agentapi.Tensor_ByteData{ByteData: b.data[i]},
		})
	}
	return in
}

package main

import (
	"fmt"

	"github.com/picket-ml/picket/internal/rows"
)

// maxRowElements bounds a row: what a request could carry at the very most.
const maxRowElements = 1 << 31

// batch gathers the rows of one request and is used again for the next.
type batch struct {
	inputs []rows.Input
	most   int // rows
	rows   int
	data   [][]byte // of each input
}

// newBatch makes a batch of most rows of a model with those inputs, or of fewer where they are large.
func newBatch(inputs []shaped, most int) (*batch, error) {
	b := &batch{most: most, data: make([][]byte, len(inputs))}
	rowBytes := 0
	for _, input := range inputs {
		in := rows.Input{Name: input.name, DType: input.dtype, Elements: 1}
		shape := input.shape
		if len(shape) > 0 && shape[0] == -1 {
			shape = shape[1:]
		} else {
			b.most = 1 // the tensor has no rows to put more of into it
		}
		for _, dim := range shape {
			if dim <= 0 || int64(in.Elements) > maxRowElements/dim {
				return nil, fmt.Errorf("input %q has the shape %v, of which no row can be written as text", in.Name, input.shape)
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

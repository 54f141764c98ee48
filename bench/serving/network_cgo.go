//go:build cgo && linux

package main

import (
	"errors"
	"fmt"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/tensor"
)

// networkAnswers is what ONNX Runtime's own C API answers to the rows, with one thread.
func networkAnswers(rows tensor.Tensor) (answers []float32, err error) {
	peer, err := native.OpenPeer(native.ONNXRuntime, native.Task{Library: models.ONNXRuntime(), Model: networkFile(), Features: networkFeatures, Outputs: 1, Threads: 1})
	if err != nil {
		return nil, fmt.Errorf("%w (make fixtures fetches the library)", err)
	}
	defer func() { err = errors.Join(err, peer.Close()) }()
	n := int(rows.Shape.Dim(0))
	out, err := tensor.New("output", tensor.FP32, tensor.MustShape(int64(n), 1))
	if err != nil {
		return nil, err
	}
	defer out.Buffer.Release()
	// Row by row: in which order a product adds up depends on how many rows there are.
	for i := range n {
		if _, err := peer.Run(rows.Rows(i, i+1), tensor.Tensor{}, out.Rows(i, i+1)); err != nil {
			return nil, err
		}
	}
	values, err := tensor.View[float32](out)
	return append([]float32(nil), values...), err
}

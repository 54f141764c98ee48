//go:build !cgo || !linux

package main

import (
	"errors"

	"github.com/picket-ml/picket/tensor"
)

func networkAnswers(tensor.Tensor) ([]float32, error) {
	return nil, errors.New("ONNX Runtime, which has the reference, needs a build with cgo for Linux")
}

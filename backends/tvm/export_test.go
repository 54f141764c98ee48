//go:build cgo && linux

package tvm

import (
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// Threaded makes an instance of so many threads, whatever was measured, and gives
// what runs it with so many tasks to a function.
func Threaded(m engine.Model, threads int) (run func(in, out []tensor.Tensor, tasks int) error, closing func() error, err error) {
	i, err := newInstance(m.(*model), threads)
	if err != nil {
		return nil, nil, err
	}
	n := max(1, i.model.batch)
	return func(in, out []tensor.Tensor, tasks int) error { return i.run(in, out, 0, n, n, tasks) }, i.Close, nil
}

package engine

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// Variable as the first dimension of a TensorSpec stands for the number of rows
// of a request.
const Variable = -1

// TensorSpec is what a model says of one of its tensors.
type TensorSpec struct {
	Name  string
	DType tensor.DType
	// Dims are the dimensions, outermost first. Only the first may be Variable.
	Dims []int64
}

// Signature is what a model takes and gives, in the model's own order.
type Signature struct {
	Inputs, Outputs []TensorSpec
	// Contributions is one more tensor that a model gives to a request that asks for
	// it with Request.Explain: what each feature of a row has contributed to its
	// answer. Nil for models that were not opened with OpenOptions.Explain.
	Contributions *TensorSpec
}

// HasRows tells whether the first dimension is the number of rows.
func (s *TensorSpec) HasRows() bool { return len(s.Dims) > 0 && s.Dims[0] == Variable }

// Shape is the shape of the tensor for that many rows.
func (s *TensorSpec) Shape(rows int) (tensor.Shape, error) {
	var dims [tensor.MaxRank]int64
	n := copy(dims[:], s.Dims)
	if n < len(s.Dims) {
		return tensor.Shape{}, fmt.Errorf("tensor %q has %d dimensions, the limit is %d", s.Name, len(s.Dims), tensor.MaxRank)
	}
	if s.HasRows() {
		dims[0] = int64(rows)
	}
	return tensor.NewShape(dims[:n]...)
}

// RowBytes is the number of bytes of one row, or of the whole tensor where it
// has no rows.
func (s *TensorSpec) RowBytes() (int, error) {
	shape, err := s.Shape(1)
	if err != nil {
		return 0, err
	}
	return shape.ByteSize(s.DType)
}

// String is the spec as people write it, such as "data FP32 [-1, 30]".
func (s TensorSpec) String() string {
	dims := make([]string, len(s.Dims))
	for i, d := range s.Dims {
		dims[i] = strconv.FormatInt(d, 10)
	}
	return fmt.Sprintf("%s %s [%s]", s.Name, s.DType, strings.Join(dims, ", "))
}

func (s *TensorSpec) equal(o *TensorSpec) bool {
	return s.Name == o.Name && s.DType == o.DType && slices.Equal(s.Dims, o.Dims)
}

// Batchable tells whether every tensor has rows, so that requests can be run
// together and split again.
func (s Signature) Batchable() bool {
	for _, specs := range [][]TensorSpec{s.Inputs, s.Outputs} {
		for i := range specs {
			if !specs[i].HasRows() {
				return false
			}
		}
	}
	return true
}

// Equal tells whether a client of one model can be a client of the other. One that
// asks for contributions is told when there are none any more.
func (s Signature) Equal(o Signature) bool {
	equal := func(x, y TensorSpec) bool { return x.equal(&y) }
	return slices.EqualFunc(s.Inputs, o.Inputs, equal) && slices.EqualFunc(s.Outputs, o.Outputs, equal)
}

// rowBytes is the number of bytes of one row of all tensors together.
func (s Signature) rowBytes() (int, error) {
	sum := 0
	for _, specs := range [][]TensorSpec{s.Inputs, s.Outputs} {
		for i := range specs {
			n, err := specs[i].RowBytes()
			if err != nil {
				return 0, err
			}
			sum = min(sum, math.MaxInt-n) + n // far too many is as good as the sum
		}
	}
	return sum, nil
}

// check refuses signatures that the engine could not allocate tensors for. A
// backend derives them from the artifact, which is not to be trusted.
func (s Signature) check() error {
	if len(s.Inputs) == 0 || len(s.Outputs) == 0 {
		return fmt.Errorf("the model has %d inputs and %d outputs, each must be at least one", len(s.Inputs), len(s.Outputs))
	}
	outputs := s.Outputs
	if s.Contributions != nil {
		outputs = append(slices.Clone(outputs), *s.Contributions)
	}
	for _, specs := range [][]TensorSpec{s.Inputs, outputs} {
		for i, spec := range specs {
			for j, d := range spec.Dims {
				if d < 0 && (j > 0 || d != Variable) {
					return fmt.Errorf("tensor %q: dimension %d is %d; only the first may be variable, as -1", spec.Name, j, d)
				}
			}
			if _, err := spec.RowBytes(); err != nil {
				return fmt.Errorf("tensor %q: %w", spec.Name, err)
			}
			if slices.ContainsFunc(specs[:i], func(o TensorSpec) bool { return o.Name == spec.Name }) {
				return fmt.Errorf("two tensors are named %q", spec.Name)
			}
		}
	}
	return nil
}

// fits refuses signatures whose tensors, for the largest batches of all
// instances, are more than the machine has or the process may use. The kernel
// would lend that memory and kill the process once it is written to.
func (s Signature) fits(o ModelOptions, memory *hw.Memory) error {
	limit := memory.Usable()
	if limit == 0 {
		return nil // unknown
	}
	var need float64 // because the product may not fit 64 bits
	for _, specs := range [][]TensorSpec{s.Inputs, s.Outputs} {
		for i := range specs {
			bytes, err := specs[i].RowBytes()
			if err != nil {
				return err
			}
			rows := 1
			if specs[i].HasRows() && s.Batchable() {
				rows = o.MaxBatchRows
			}
			need += float64(bytes) * float64(rows) * float64(o.Instances)
		}
	}
	if need > float64(limit) {
		return fmt.Errorf("the tensors of %d rows in %d instances take %.0f MiB, the process may use %d MiB in all", o.MaxBatchRows, o.Instances, need/(1<<20), limit>>20)
	}
	return nil
}

package neo

import (
	"fmt"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// The names of a tree model's tensors where compiled.meta gives none. The
// runtime calls the input so whatever the metadata says; it has no name for
// the output.
const (
	TreeInput  = "data"
	TreeOutput = "output"
)

// TreeSignature is the signature of a tree model whose library says that it
// takes features values a row and gives tensors of the dimensions out, without
// the rows, of type d. Names come from the metadata where it has them; what
// else it says has to agree with the library. Errors wrap engine.ErrArtifact.
func (m Metadata) TreeSignature(features int64, d tensor.DType, out ...int64) (engine.Signature, error) {
	input := engine.TensorSpec{Name: TreeInput, DType: tensor.FP32, Dims: []int64{engine.Variable, features}}
	output := engine.TensorSpec{Name: TreeOutput, DType: d, Dims: append([]int64{engine.Variable}, out...)}
	if err := adopt(&input, "input", m.Inputs); err != nil {
		return engine.Signature{}, err
	}
	if err := adopt(&output, "output", m.Outputs); err != nil {
		return engine.Signature{}, err
	}
	return engine.Signature{Inputs: []engine.TensorSpec{input}, Outputs: []engine.TensorSpec{output}}, nil
}

// adopt gives spec the name that the metadata lists and refuses a metadata that
// speaks of another model.
func adopt(spec *engine.TensorSpec, role string, listed []engine.TensorSpec) error {
	if len(listed) == 0 {
		return nil
	}
	if len(listed) > 1 {
		return fmt.Errorf("%w: its metadata lists %d %ss; a tree model has one", engine.ErrArtifact, len(listed), role)
	}
	said := listed[0]
	if said.DType != spec.DType {
		return fmt.Errorf("%w: its metadata says that %s %q is %s; the library's is %s", engine.ErrArtifact, role, said.Name, said.DType, spec.DType)
	}
	// The first dimension is whatever batch the compilation job was given; the
	// code does not depend on it.
	if len(said.Dims) > 1 {
		saidRow, known := product(said.Dims[1:])
		row, _ := product(spec.Dims[1:])
		if known && saidRow != row {
			return fmt.Errorf("%w: its metadata says that %s %q has %d values a row; the library has %d",
				engine.ErrArtifact, role, said.Name, saidRow, row)
		}
	}
	spec.Name = said.Name
	return nil
}

// product multiplies dimensions; known is false where one is not fixed. A
// product too large for any library is given as -1, which equals none.
func product(dims []int64) (n int64, known bool) {
	n = 1
	for _, d := range dims {
		if d < 0 {
			return 0, false
		}
		if d > 1<<31 || n*d > 1<<31 {
			return -1, true
		}
		n *= d
	}
	return n, true
}

package oip

import (
	"errors"
	"fmt"
	"math"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/tensor"
)

// bind finds the input of the message for each of the model's, in the model's
// order, and the number of rows that all of them have. It looks at shapes and
// sizes, and allocates nothing. Errors wrap engine.ErrInvalidInput.
func (m *message) bind(dst []*input, signature *engine.Signature, limit uint64) (inputs []*input, rows int, err error) {
	specs := signature.Inputs
	if len(m.inputs) != len(specs) {
		return nil, 0, fmt.Errorf("%w: the request has %s, the model has %s", engine.ErrInvalidInput,
			failure.Counted(len(m.inputs), "input"), failure.Counted(len(specs), "input"))
	}
	for i := range specs {
		in := m.inputNamed(specs[i].Name)
		if in == nil {
			return nil, 0, fmt.Errorf("%w: the request has no input %q, which the model takes", engine.ErrInvalidInput, specs[i].Name)
		}
		dst = append(dst, in)
		n, err := in.measure(&specs[i], limit)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: input %q: %w", engine.ErrInvalidInput, specs[i].Name, err)
		}
		switch {
		case !specs[i].HasRows():
		case rows == 0:
			rows = n
		case rows != n:
			return nil, 0, fmt.Errorf("%w: input %q has %s where another has %d", engine.ErrInvalidInput, specs[i].Name, failure.Counted(n, "row"), rows)
		}
	}
	return dst, max(rows, 1), nil
}

// inputNamed is the one input of that name. A second one of the name leaves
// another of the model's inputs without any.
func (m *message) inputNamed(name string) *input {
	for i := range m.inputs {
		if string(m.inputs[i].name) == name || string(m.inputs[i].name) == failure.ValidText(name) {
			return &m.inputs[i]
		}
	}
	return nil
}

// measure checks the input against spec and returns its number of rows. limit is
// the most bytes that it may have in shared memory.
func (in *input) measure(spec *engine.TensorSpec, limit uint64) (int, error) {
	if string(in.datatype) != spec.DType.String() {
		return 0, fmt.Errorf("its datatype is %q, the model takes %s", failure.Clip(in.datatype), spec)
	}
	rows, size, err := in.shape.match(spec)
	if err != nil {
		return 0, err
	}
	elements := size / spec.DType.Size()
	switch in.form {
	case absent:
		return 0, errors.New("it carries no data: send it in the request, or in shared memory")
	case rawBytes:
		if len(in.data) != size {
			return 0, fmt.Errorf("it has %s, its shape and datatype make %d", failure.Counted(len(in.data), "byte"), size)
		}
	case jsonText:
		// The exact number is known when they are read. An element takes at least
		// a digit and a comma.
		if elements > len(in.data)/2+1 {
			return 0, fmt.Errorf("its data has fewer elements than its shape makes, which is %d", elements)
		}
	case shared:
		if in.place.sized && in.place.size != uint64(size) {
			return 0, fmt.Errorf("its shared_memory_byte_size is %d, its shape and datatype make %d", in.place.size, size)
		}
		if uint64(size) > limit {
			return 0, fmt.Errorf("it has %d bytes in shared memory, the limit is %d: send fewer rows at a time", size, limit)
		}
	default:
		n, err := countElements(in.data, spec.DType)
		if err != nil {
			return 0, err
		}
		if n != elements {
			return 0, fmt.Errorf("it has %s, its shape makes %d", failure.Counted(n, "element"), elements)
		}
	}
	return rows, nil
}

// match checks the shape against spec and returns the number of rows, 1 where
// there are none, and how many bytes they take.
func (d *dims) match(spec *engine.TensorSpec) (rows, size int, err error) {
	if d.rank != len(spec.Dims) {
		return 0, 0, fmt.Errorf("its shape has %s, the model takes %s", failure.Counted(d.rank, "dimension"), spec)
	}
	rows = 1
	for i, want := range spec.Dims {
		have := d.dim[i]
		if want == engine.Variable {
			if have < 1 || have > math.MaxInt32 {
				return 0, 0, fmt.Errorf("its shape has %d rows, it must be from 1 to %d", have, math.MaxInt32)
			}
			rows = int(have)
		} else if have != want {
			return 0, 0, fmt.Errorf("its shape has %d in dimension %d, the model takes %s", have, i, spec)
		}
	}
	shape, err := spec.Shape(rows)
	if err != nil {
		return 0, 0, err
	}
	size, err = shape.ByteSize(spec.DType)
	return rows, size, err
}

// fill writes the input's bytes to t, which is of the size that was measured.
func (in *input) fill(t tensor.Tensor, regions *regions, who owner) error {
	dst := t.Bytes()
	switch in.form {
	case rawBytes:
		copy(dst, in.data)
		return nil
	case elements:
		return copyElements(dst, in.data, t.DType)
	case jsonText:
		return copyNumbers(dst, in.data, t.DType, in.shape.slice())
	default:
		return regions.read(dst, who, in.place)
	}
}

// explains tells whether one of the outputs, which are bound, is the contributions.
func (m *message) explains(signature *engine.Signature) bool {
	for i := range m.outputs {
		if m.outputs[i].tensor == len(signature.Outputs) {
			return true
		}
	}
	return false
}

// bindOutputs finds the outputs that the message asks for, all but contributions where
// it names none. Errors wrap engine.ErrInvalidInput.
func (m *message) bindOutputs(signature *engine.Signature) error {
	specs := signature.Outputs
	if len(m.outputs) == 0 {
		for i := range specs {
			m.outputs = append(m.outputs, output{tensor: i})
		}
		return nil
	}
	for i := range m.outputs {
		out := &m.outputs[i]
		out.tensor = -1
		for j := range specs {
			if string(out.name) == specs[j].Name || string(out.name) == failure.ValidText(specs[j].Name) {
				out.tensor = j
			}
		}
		if c := signature.Contributions; c != nil && string(out.name) == c.Name {
			out.tensor = len(specs)
		}
		if out.tensor < 0 && string(out.name) == "contributions" { // that no output has in the metadata, so who asks for it knows what it is
			return fmt.Errorf("%w: the model does not tell what its features contribute: load it with explain: true", engine.ErrInvalidInput)
		}
		if out.tensor < 0 {
			return fmt.Errorf("%w: the model has no output %q; its first is %q", engine.ErrInvalidInput, failure.Clip(out.name), specs[0].Name)
		}
		for j := range i {
			if m.outputs[j].tensor == out.tensor {
				return fmt.Errorf("%w: output %q is asked for twice", engine.ErrInvalidInput, failure.Clip(out.name))
			}
		}
	}
	return nil
}

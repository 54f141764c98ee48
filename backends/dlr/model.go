package dlr

import (
	"errors"
	"fmt"
	"sync"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// model is an opened folder. It owns the folder and, until the first instance
// takes it, the handle that the signature was read from.
type model struct {
	runtime    *libdlr
	folder     *folder
	kind       neo.Kind
	program    string // the version of TVM that compiled a Relay VM program
	signature  engine.Signature
	properties engine.Properties
	zeroCopy   bool // SetDLRInputTensorZeroCopy is there, and the model takes it
	typed      bool // SetDLRInputTensor is there, and the model takes it

	mu    sync.Mutex
	first *cdlr.Model // nil once taken
}

// newModel opens the model in f, which it owns unless it fails. program is the
// version of TVM that compiled a Relay VM program.
func newModel(r *libdlr, f *folder, layout neo.Layout, program string, metadata neo.Metadata, options engine.OpenOptions) (*model, error) {
	m := &model{runtime: r, folder: f, kind: layout.Kind, program: program,
		// Each handle that is made costs libdlr something that it does not give
		// back, so there are no more of them than can run at once.
		properties: engine.Properties{MaxInstances: max(1, int(options.Host.CPU.CoresAllowed)), Variant: string(metadata.CPULevel)},
	}
	if m.kind == neo.Trees {
		m.properties.Notes = r.zerosNotes(metadata)
	} else {
		m.typed = r.library.Have("SetDLRInputTensor") == nil
		m.zeroCopy = m.kind == neo.TVM && r.library.Have("SetDLRInputTensorZeroCopy") == nil
	}
	var err error
	if m.first, err = m.create(); err != nil {
		return nil, err
	}
	if m.signature, err = m.read(metadata); err != nil {
		return nil, errors.Join(err, m.first.Close())
	}
	return m, nil
}

// create makes a handle, in which libdlr loads the model.
func (m *model) create() (*cdlr.Model, error) {
	h, err := m.runtime.library.CreateModel(m.folder.path, cdlr.CPU, 0)
	if err != nil && m.kind == neo.RelayVM {
		return nil, fmt.Errorf("%w: libdlr %s refuses the program, which TVM %s has compiled; a libdlr runs only programs of the TVM that it was built with, "+
			"so keep the libdlr.so that came with the model beside it, or name one of that TVM in the configuration, as backends.libdlr: %w",
			engine.ErrUnsupported, m.runtime.version, m.program, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: libdlr %s refuses the folder: %w", engine.ErrArtifact, m.runtime.version, err)
	}
	return h, nil
}

// read makes the signature of what libdlr says of the model; names, which libdlr
// knows only in part, come from the metadata.
func (m *model) read(metadata neo.Metadata) (engine.Signature, error) {
	inputs, err := m.specs("input", m.first.NumInputs, m.first.InputType, m.first.AppendInputShape)
	if err != nil {
		return engine.Signature{}, err
	}
	outputs, err := m.specs("output", m.first.NumOutputs, m.first.OutputType, m.first.AppendOutputShape)
	if err != nil {
		return engine.Signature{}, err
	}
	if m.kind == neo.Trees {
		if len(inputs) != 1 || len(outputs) != 1 || len(inputs[0].Dims) != 2 || len(outputs[0].Dims) != 2 {
			return engine.Signature{}, fmt.Errorf("%w: libdlr gives a tree model %d inputs and %d outputs", engine.ErrArtifact, len(inputs), len(outputs))
		}
		return metadata.TreeSignature(inputs[0].Dims[1], tensor.FP32, outputs[0].Dims[1])
	}
	if err := m.name(inputs, "input", metadata.Inputs, m.first.InputName); err != nil {
		return engine.Signature{}, err
	}
	unnamed := func(int) (string, error) { return "", errors.New("libdlr has no names for outputs") }
	if err := m.name(outputs, "output", metadata.Outputs, unnamed); err != nil {
		return engine.Signature{}, err
	}
	return engine.Signature{Inputs: inputs, Outputs: outputs}, nil
}

// specs reads types and shapes of all inputs or outputs.
func (m *model) specs(role string, count func() (int, error), kind func(int) (string, error), shape func([]int64, int) ([]int64, error)) ([]engine.TensorSpec, error) {
	n, err := count()
	if err != nil || n < 1 || n > 256 {
		return nil, fmt.Errorf("%w: libdlr counts %d %ss (%w)", engine.ErrArtifact, n, role, errors.Join(err))
	}
	specs := make([]engine.TensorSpec, n)
	for i := range specs {
		name, err := kind(i)
		if err == nil {
			specs[i].DType, err = tensor.ParseDType(name)
		}
		if err == nil {
			specs[i].Dims, err = shape(nil, i)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: reading %s %d from libdlr: %w", engine.ErrArtifact, role, i, err)
		}
		if m.kind == neo.Trees {
			continue
		}
		for _, d := range specs[i].Dims {
			if d < 0 {
				return nil, fmt.Errorf("%w: %s %d has a dimension that is known only after a run", engine.ErrUnsupported, role, i)
			}
		}
	}
	return specs, nil
}

// name gives every spec its name. Where the metadata lists tensors, it is their
// order that clients know, so types and shapes have to be the library's.
func (m *model) name(specs []engine.TensorSpec, role string, listed []engine.TensorSpec, ask func(int) (string, error)) error {
	if len(listed) == 0 {
		for i := range specs {
			name, err := ask(i)
			if err != nil {
				name = fmt.Sprintf("%s_%d", role, i)
			}
			specs[i].Name = name
		}
		if len(specs) > 1 && role == "input" && !m.typed {
			return fmt.Errorf("%w: the model has %d inputs and no compiled.meta that describes them, and libdlr %s mixes them up", engine.ErrUnsupported, len(specs), m.runtime.version)
		}
		return nil
	}
	if len(listed) != len(specs) {
		return fmt.Errorf("%w: its metadata lists %d %ss; libdlr counts %d", engine.ErrArtifact, len(listed), role, len(specs))
	}
	// libdlr 1.6 tells types and shapes of several inputs in another order than
	// their names. Then only the metadata knows; setting a tensor of another size
	// fails, because libdlr compares.
	if trusted := role == "input" && len(specs) > 1 && m.typed; trusted {
		for i, l := range listed {
			if l.HasRows() || l.DType == tensor.Bytes {
				return fmt.Errorf("%w: its metadata gives input %q no fixed size", engine.ErrUnsupported, l.Name)
			}
			specs[i] = l
		}
		return nil
	}
	for i, l := range listed {
		if l.HasRows() {
			return fmt.Errorf("%w: its metadata gives %s %q any number of rows, and libdlr runs a graph's own number only; backend tvm fills up and divides", engine.ErrUnsupported, role, l.Name)
		}
		said, err := sizeOf(l)
		if err != nil {
			return err
		}
		is, err := sizeOf(specs[i])
		if err != nil {
			return err
		}
		if l.DType != specs[i].DType || said != is {
			return fmt.Errorf("%w: its metadata says %s %s; the library has %s %v", engine.ErrArtifact, role, l, specs[i].DType, specs[i].Dims)
		}
		specs[i].Name, specs[i].Dims = l.Name, l.Dims
	}
	return nil
}

// sizeOf is the size of a tensor of fixed shape in bytes.
func sizeOf(s engine.TensorSpec) (int, error) {
	shape, err := tensor.NewShape(s.Dims...)
	if err != nil {
		return 0, fmt.Errorf("%w: tensor %q: %w", engine.ErrArtifact, s.Name, err)
	}
	n, err := shape.ByteSize(s.DType)
	if err != nil {
		return 0, fmt.Errorf("%w: tensor %q: %w", engine.ErrArtifact, s.Name, err)
	}
	return n, nil
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties bounds the number of instances; see newModel.
func (m *model) Properties() engine.Properties { return m.properties }

// NewInstance makes a handle of its own for the executor, because libdlr keeps
// inputs and outputs in it. The first takes the one that Open made.
func (m *model) NewInstance() (engine.Instance, error) {
	m.mu.Lock()
	h := m.first
	m.first = nil
	m.mu.Unlock()
	if h == nil {
		var err error
		if h, err = m.create(); err != nil {
			return nil, err
		}
	}
	return newInstance(m, h), nil
}

// Close closes the folder and the handle that no instance took.
func (m *model) Close() error {
	var err error
	if m.first != nil {
		err = m.first.Close()
	}
	return errors.Join(err, m.folder.close())
}

package onnx

import (
	"fmt"
	"slices"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/tensor"
)

// model is a session and what is known of it. It owns the session.
type model struct {
	session    *session
	signature  engine.Signature
	properties engine.Properties
	// batch is the number of rows that the session takes at once where that is fixed; 0 where it varies or there are none.
	batch int
	// lease is the model's place on a GPU, which it owns; nil elsewhere.
	lease *devices.Lease
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties is how it likes to be run.
func (m *model) Properties() engine.Properties { return m.properties }

// NewInstance makes what one executor needs to call the session.
func (m *model) NewInstance() (engine.Instance, error) {
	c, err := m.session.newCall()
	if err != nil {
		return nil, err
	}
	i := &instance{model: m, call: c}
	if m.batch > 0 {
		if err := i.stage(); err != nil {
			return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
		}
	}
	return i, nil
}

// Close closes the session, and gives the place on the GPU back.
func (m *model) Close() error {
	m.session.end(m.lease)
	if m.lease == nil {
		return nil
	}
	return m.lease.Close()
}

// rename gives the tensors the names and dimensions that compiled.meta lists, which are those that clients know, and which
// have to be of the same types and sizes. Beside a compiled model, the metadata is that one's.
func (m *model) rename(metadata neo.Metadata, beside bool) error {
	kind := engine.ErrArtifact
	if beside {
		kind = engine.ErrUnsupported
	}
	for _, side := range []struct {
		role        string
		own, listed []engine.TensorSpec
	}{{"input", m.signature.Inputs, metadata.Inputs}, {"output", m.signature.Outputs, metadata.Outputs}} {
		if len(side.listed) == 0 {
			continue
		}
		if len(side.listed) != len(side.own) {
			return fmt.Errorf("%w: the model has %d %ss, and compiled.meta lists %d", kind, len(side.own), side.role, len(side.listed))
		}
		for i, l := range side.listed {
			own := &side.own[i]
			dims := slices.Clone(own.Dims)
			if own.HasRows() && len(l.Dims) > 0 && m.takes(l.Dims[0]) {
				dims[0] = l.Dims[0]
			}
			if l.DType != own.DType || !slices.Equal(dims, l.Dims) {
				return fmt.Errorf("%w: the model has %s %v, and compiled.meta says %v", kind, side.role, *own, l)
			}
			own.Name, own.Dims = l.Name, dims
		}
	}
	if !m.signature.Batchable() {
		m.batch, m.properties.BatchRows = 0, 0
	}
	return nil
}

// takes tells whether the session can be run with exactly n rows.
func (m *model) takes(n int64) bool {
	return n >= 1 && n <= maxRows && (m.batch == 0 || int64(m.batch) == n)
}

// instance is one executor.
type instance struct {
	model *model
	call  *call
	// The part of a request that is run, and a batch that is filled up, where the session's batch is fixed.
	partIn, partOut   []tensor.Tensor
	stageIn, stageOut []tensor.Tensor
}

// keptRows is how many rows a run may have and leave the memory that it took to the next one: as many as the engine puts
// together unless it is told otherwise. Larger ones are rare, long, and may have taken much.
const keptRows = 64

// Run lays the library's tensors over in and out and runs. See engine.Instance.
func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	m := i.model
	if err := fits(m.signature.Inputs, in, rows); err != nil {
		return err
	}
	if err := fits(m.signature.Outputs, out, rows); err != nil {
		return err
	}
	if m.batch == 0 {
		return i.run(in, out, rows > keptRows)
	}
	for at := 0; at < rows; at += m.batch {
		n := min(m.batch, rows-at)
		for j := range in {
			i.partIn[j] = in[j].Rows(at, at+n)
		}
		for j := range out {
			i.partOut[j] = out[j].Rows(at, at+n)
		}
		if n == m.batch {
			if err := i.run(i.partIn, i.partOut, false); err != nil {
				return err
			}
			continue
		}
		// The rest of the batch is its first row over and over: a row that the model is known to take.
		for j := range in {
			row, to := i.partIn[j].Rows(0, 1).Bytes(), i.stageIn[j].Bytes()
			for to = to[copy(to, i.partIn[j].Bytes()):]; len(to) > 0; {
				to = to[copy(to, row):]
			}
		}
		if err := i.run(i.stageIn, i.stageOut, false); err != nil {
			return err
		}
		for j := range out {
			copy(i.partOut[j].Bytes(), i.stageOut[j].Bytes())
		}
	}
	return nil
}

func (i *instance) run(in, out []tensor.Tensor, shrink bool) error {
	if err := i.call.run(in, out, shrink); err != nil {
		kind := engine.ErrRun
		if outOfMemory(err) {
			kind = engine.ErrMemory
		}
		if i.model.lease != nil {
			err = i.model.lease.Suspect(driverError(err))
		}
		return fmt.Errorf("%w: ONNX Runtime: %w", kind, err)
	}
	return nil
}

// stage allocates a batch.
func (i *instance) stage() (err error) {
	s := &i.model.signature
	i.partIn, i.partOut = make([]tensor.Tensor, len(s.Inputs)), make([]tensor.Tensor, len(s.Outputs))
	if i.stageIn, err = newTensors(s.Inputs, i.model.batch); err == nil {
		i.stageOut, err = newTensors(s.Outputs, i.model.batch)
	}
	if err != nil {
		_ = i.Close() // which never fails
	}
	return err
}

// Close gives back what the instance has of the library.
func (i *instance) Close() error {
	i.call.close()
	releaseAll(i.stageIn)
	releaseAll(i.stageOut)
	return nil
}

// fits makes sure that the library, which reads and writes by address, stays within the tensors and their rows.
func fits(specs []engine.TensorSpec, tensors []tensor.Tensor, rows int) error {
	if len(specs) != len(tensors) {
		return fmt.Errorf("%w: %d tensors for %d of the model", engine.ErrInvalidInput, len(tensors), len(specs))
	}
	for n := range specs {
		spec, t := &specs[n], &tensors[n]
		good := t.DType == spec.DType && t.Shape.Rank() == len(spec.Dims) && rows >= 1
		for d := 0; good && d < len(spec.Dims); d++ {
			want := spec.Dims[d]
			if want == engine.Variable {
				want = int64(rows)
			}
			good = t.Shape.Dim(d) == want
		}
		if !good {
			return fmt.Errorf("%w: tensor %q is not %d rows of the model's", engine.ErrInvalidInput, t.Name, rows)
		}
	}
	return nil
}

// newTensors allocates tensors for that many rows, which the caller releases.
func newTensors(specs []engine.TensorSpec, rows int) ([]tensor.Tensor, error) {
	var made []tensor.Tensor
	for i := range specs {
		shape, err := specs[i].Shape(rows)
		var t tensor.Tensor
		if err == nil {
			t, err = tensor.New(specs[i].Name, specs[i].DType, shape)
		}
		if err != nil {
			releaseAll(made)
			return nil, err
		}
		made = append(made, t)
	}
	return made, nil
}

func releaseAll(tensors []tensor.Tensor) {
	for _, t := range tensors {
		t.Buffer.Release()
	}
}

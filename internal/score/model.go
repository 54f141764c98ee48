package score

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// name is what the model is loaded as, in an engine that has no other.
const name = "score"

// batchRows is how many rows a run has: enough for the kernels for batches, and few enough to stay in a core's own cache.
const batchRows = 1024

// maxBatchBytes bounds the inputs of a run where rows are large.
const maxBatchBytes = 16 << 20

// model is the loaded model.
type model struct {
	engine   *engine.Engine
	snapshot *engine.Snapshot
	input    tensor.DType
	features int
	outputs  []output
	batch    int
	digest   string
	backend  string
	variant  string
}

// output is one tensor that the model gives, seen from one row.
type output struct {
	name     string
	dtype    tensor.DType
	elements int
}

func (o output) size() int { return o.elements * o.dtype.Size() }

// openModel loads the model, into as many instances as there are workers.
func openModel(ctx context.Context, o *Options, backend string) (_ *model, err error) {
	digest, err := digestOf(ctx, o.Source, o.Model)
	if err != nil {
		return nil, err
	}
	eng, err := engine.New(engine.Options{Host: o.Host, Backends: o.Backends, Source: o.Source, Version: o.Version})
	if err != nil {
		return nil, err
	}
	m := &model{engine: eng, digest: digest}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if backend == "" {
		backend = o.Backend
	}
	d, err := eng.Load(ctx, name, o.Model, engine.ModelOptions{Backend: backend, ExpectedRows: batchRows, Instances: o.Threads, Threads: 1})
	if err != nil {
		return nil, err
	}
	m.backend, m.variant = d.Backend, d.Variant
	if m.snapshot, err = eng.Acquire(name); err != nil {
		return nil, err
	}
	return m, m.understand(d.Signature)
}

// understand finds out what a row is.
func (m *model) understand(s engine.Signature) error {
	if len(s.Inputs) != 1 {
		return fmt.Errorf("the model takes %d inputs, and the columns of a table are those of one", len(s.Inputs))
	}
	m.batch = batchRows
	if !s.Batchable() {
		m.batch = 1
	}
	in, err := perRow(s.Inputs[0])
	if err != nil {
		return err
	}
	m.input, m.features = in.dtype, in.elements
	m.batch = max(1, min(m.batch, maxBatchBytes/max(1, in.size())))
	for _, spec := range s.Outputs {
		out, err := perRow(spec)
		if err != nil {
			return err
		}
		m.outputs = append(m.outputs, out)
	}
	return nil
}

// maxElements bounds a row, in columns of a table.
const maxElements = 1 << 20

func perRow(t engine.TensorSpec) (output, error) {
	o := output{t.Name, t.DType, 1}
	dims := t.Dims
	if len(dims) > 0 && dims[0] == engine.Variable {
		dims = dims[1:]
	}
	for _, d := range dims {
		if d <= 0 || int64(o.elements) > maxElements/d {
			return o, fmt.Errorf("tensor %q has the shape %v, of which a row is no row of a table", t.Name, t.Dims)
		}
		o.elements *= int(d)
	}
	if t.DType.Size() == 0 {
		return o, fmt.Errorf("tensor %q is of type %v, which no column of a table is", t.Name, t.DType)
	}
	return o, nil
}

// digestOf stands for what the model is.
func digestOf(ctx context.Context, source engine.Source, path string) (_ string, err error) {
	a, err := source.Open(ctx, path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	all := sha256.New()
	for _, f := range a.Files {
		d, err := a.SHA256(ctx, f.Name)
		if err != nil {
			return "", fmt.Errorf("reading the model: %w", err)
		}
		fmt.Fprintf(all, "%q %x\n", f.Name, d)
	}
	return "sha256:" + hex.EncodeToString(all.Sum(nil)), nil
}

// run scores the rows of a chunk.
func (m *model) run(ctx context.Context, c *chunk) error {
	for i := range c.scored {
		c.scored[i] = c.scored[i][:0]
	}
	width := m.features * m.input.Size()
	for from := 0; from < c.rows; from += m.batch {
		n := min(m.batch, c.rows-from)
		r, err := m.snapshot.NewRequest(n)
		if err != nil {
			return err
		}
		copy(r.Inputs[0].Bytes(), c.data[from*width:(from+n)*width])
		if err := r.Predict(ctx); err != nil {
			r.Release()
			return err
		}
		for i := range c.scored {
			c.scored[i] = append(c.scored[i], r.Outputs[i].Bytes()...)
		}
		r.Release()
	}
	return nil
}

func (m *model) close() error {
	if m.snapshot != nil {
		m.snapshot.Release()
	}
	return m.engine.Close(context.Background())
}

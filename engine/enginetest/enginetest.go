// Package enginetest is a scriptable backend for tests of whatever stands on
// the engine. It computes something real, so that mixed-up rows and buffers are
// noticed, and it watches the engine keep its side of the contract.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// Columns is the number of values in a row of the default signature.
const Columns = 3

// Script says how a Backend and its models behave. The zero Script is a model
// that works, is not inline, and sums a row. With several tensors, all of FP32,
// value j of a row of output o is the sum over the inputs i of i+1 times that of
// input i's row, plus Bias, 1000*o and j.
type Script struct {
	Name       string // default "fake"
	Match      int    // default 100
	Probe      error
	Open       error
	Instance   error // what NewInstance fails with
	Signature  *engine.Signature
	Properties engine.Properties
	// Bias is added to every answer, to tell one version of a model from
	// another.
	Bias float32
	// BatchBias is added to the answers of runs of more than one row, as by a kernel
	// for batches that is wrong.
	BatchBias float32
	// OnRun, if set, is called at the start of every run but those of the warm-up,
	// also when backends are timed; its error is the run's. It may block.
	OnRun func(rows int) error
}

// Backend is a fake of engine.Backend. Make it with New.
type Backend struct {
	script Script

	mu         sync.Mutex
	violations []string

	models, instances atomic.Int64
	opened            atomic.Int64
}

// New makes a backend that behaves as the script says.
func New(s Script) *Backend {
	if s.Name == "" {
		s.Name = "fake"
	}
	if s.Match == 0 {
		s.Match = 100
	}
	if s.Signature == nil {
		s.Signature = &engine.Signature{
			Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{engine.Variable, Columns}}},
			Outputs: []engine.TensorSpec{{Name: "score", DType: tensor.FP32, Dims: []int64{engine.Variable, 1}}},
		}
	}
	return &Backend{script: s}
}

// Live is how many models and instances are open now.
func (b *Backend) Live() (models, instances int64) { return b.models.Load(), b.instances.Load() }

// Opened is how many models were ever opened.
func (b *Backend) Opened() int64 { return b.opened.Load() }

// Violations are the ways in which the engine broke the contract, empty if it
// kept it.
func (b *Backend) Violations() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.violations)
}

// bound tells whether an instance has to be used on the thread that made it.
func (b *Backend) bound() bool { return !b.script.Properties.Inline && !b.script.Properties.Anywhere }

func (b *Backend) violation(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violations = append(b.violations, fmt.Sprintf(format, args...))
}

// Name implements engine.Backend.
func (b *Backend) Name() string { return b.script.Name }

// Probe implements engine.Backend.
func (b *Backend) Probe(*hw.Host) error { return b.script.Probe }

// Match implements engine.Backend.
func (b *Backend) Match(*engine.Artifact) int { return max(b.script.Match, 0) }

// Open implements engine.Backend.
func (b *Backend) Open(_ context.Context, _ *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	if o.Host == nil || o.Threads < 1 {
		b.violation("opened with host %v and %d threads", o.Host, o.Threads)
	}
	if b.script.Open != nil {
		return nil, b.script.Open
	}
	b.models.Add(1)
	b.opened.Add(1)
	return &model{backend: b}, nil
}

type model struct {
	backend   *Backend
	instances atomic.Int64
	closed    atomic.Bool
}

func (m *model) Signature() engine.Signature   { return *m.backend.script.Signature }
func (m *model) Properties() engine.Properties { return m.backend.script.Properties }

func (m *model) NewInstance() (engine.Instance, error) {
	if m.backend.script.Instance != nil {
		return nil, m.backend.script.Instance
	}
	m.instances.Add(1)
	m.backend.instances.Add(1)
	return &instance{model: m, thread: threadID()}, nil
}

func (m *model) Close() error {
	if n := m.instances.Load(); n != 0 {
		m.backend.violation("a model was closed with %d open instances", n)
	}
	if m.closed.Swap(true) {
		m.backend.violation("a model was closed twice")
	}
	m.backend.models.Add(-1)
	return nil
}

type instance struct {
	model  *model
	thread int
	busy   atomic.Bool
	closed bool
}

// warmUpValue is what the engine's made-up rows consist of.
const warmUpValue = 0.5

func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	b := i.model.backend
	if i.busy.Swap(true) {
		b.violation("an instance was run by two goroutines at once")
	}
	defer i.busy.Store(false)
	if i.closed {
		b.violation("an instance was run after it was closed")
	}
	if t := threadID(); b.bound() && t != i.thread {
		b.violation("an instance of thread %d was run on thread %d", i.thread, t)
	}
	if limit := b.script.Properties.MaxRows; limit > 0 && rows > limit {
		b.violation("%d rows were run, the limit is %d", rows, limit)
	}
	for _, side := range []struct {
		specs   []engine.TensorSpec
		tensors []tensor.Tensor
	}{{b.script.Signature.Inputs, in}, {b.script.Signature.Outputs, out}} {
		if len(side.tensors) != len(side.specs) {
			b.violation("%d tensors were given for %d", len(side.tensors), len(side.specs))
			return nil
		}
		for n, t := range side.tensors {
			want, err := side.specs[n].Shape(rows)
			if err != nil || t.Shape != want || t.DType != side.specs[n].DType {
				b.violation("tensor %d is %s %s, not %s %s", n, t.DType, t.Shape, side.specs[n].DType, want)
				return nil
			}
		}
	}
	x, err := tensor.View[float32](in[0])
	if err != nil {
		return err
	}
	if b.script.OnRun != nil && x[0] != warmUpValue {
		if err := b.script.OnRun(rows); err != nil {
			return err
		}
	}
	bias := b.script.Bias
	if rows > 1 {
		bias += b.script.BatchBias
	}
	for r := range rows {
		sum := bias
		for n := range in {
			values, err := row(in[n], r, rows)
			if err != nil {
				return err
			}
			for _, v := range values {
				sum += float32(n+1) * v
			}
		}
		for o := range out {
			values, err := row(out[o], r, rows)
			if err != nil {
				return err
			}
			for j := range values {
				values[j] = sum + 1000*float32(o) + float32(j)
			}
		}
	}
	return nil
}

// row is row r of rows of t.
func row(t tensor.Tensor, r, rows int) ([]float32, error) {
	values, err := tensor.View[float32](t)
	if err != nil {
		return nil, err
	}
	width := len(values) / rows
	return values[r*width : (r+1)*width], nil
}

func (i *instance) Close() error {
	if i.closed {
		i.model.backend.violation("an instance was closed twice")
	}
	if t := threadID(); i.model.backend.bound() && t != i.thread {
		i.model.backend.violation("an instance of thread %d was closed on thread %d", i.thread, t)
	}
	i.closed = true
	i.model.instances.Add(-1)
	i.model.backend.instances.Add(-1)
	return nil
}

// Source gives every url the same folder.
type Source struct{ Dir string }

// Open implements engine.Source.
func (s Source) Open(_ context.Context, url string) (*engine.Artifact, error) {
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w: %w", url, engine.ErrNotFound, err)
	}
	a, err := engine.NewArtifact(url, root)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return a, nil
}

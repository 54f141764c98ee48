package lane

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/tensor"
)

// Spec is one tensor of a model.
type Spec struct {
	Name  string
	DType tensor.DType
	// Dims are the dimensions, outermost first; the first is -1 where it is the
	// number of rows.
	Dims []int64
	// RowBytes is the bytes of one row, or of all of it where it has no rows.
	RowBytes int
}

// Size is the bytes of the tensor for so many rows.
func (s *Spec) Size(rows int) int {
	if s.hasRows() {
		return s.RowBytes * rows
	}
	return s.RowBytes
}

func (s *Spec) hasRows() bool { return len(s.Dims) > 0 && s.Dims[0] == -1 }

func (s *Spec) equal(o *Spec) bool {
	return s.Name == o.Name && s.DType == o.DType && slices.Equal(s.Dims, o.Dims)
}

// Signature is what a model takes and gives, in the order of Predict's inputs
// and outputs.
type Signature struct {
	Inputs, Outputs []Spec
}

func (s *Signature) equal(o *Signature) bool {
	equal := func(x, y Spec) bool { return x.equal(&y) }
	return slices.EqualFunc(s.Inputs, o.Inputs, equal) && slices.EqualFunc(s.Outputs, o.Outputs, equal)
}

// newSignature takes over what a server said.
func newSignature(inputs, outputs []lanewire.Spec) (*Signature, error) {
	s := &Signature{}
	for _, side := range []struct {
		from []lanewire.Spec
		to   *[]Spec
	}{{inputs, &s.Inputs}, {outputs, &s.Outputs}} {
		for i := range side.from {
			n, err := side.from[i].RowBytes()
			if err != nil {
				return nil, err
			}
			*side.to = append(*side.to, Spec{side.from[i].Name, side.from[i].DType, side.from[i].Dims, n})
		}
	}
	return s, nil
}

// Model is a model that the daemon serves. Its methods may be called by many
// goroutines at once. It need not be closed.
type Model struct {
	client    *Client
	name      string
	signature *Signature

	opened  atomic.Pointer[opened] // what it is on the session used last
	opening sync.Mutex
}

// opened is a model on one session.
type opened struct {
	session *session
	handle  uint32
}

// Name is the model's name.
func (m *Model) Name() string { return m.name }

// Signature is what the model takes and gives. It must not be changed.
func (m *Model) Signature() *Signature { return m.signature }

// Predict runs the model on so many rows. The inputs are the elements of each
// input tensor, little endian and row by row, in the order of the Signature;
// tensor.AsBytes makes them of numbers without a copy. The outputs are of the same
// form, and the caller's.
func (m *Model) Predict(ctx context.Context, rows int, inputs ...[]byte) ([][]byte, error) {
	if err := m.check(rows, inputs); err != nil {
		return nil, err
	}
	if err := m.answerFits(rows); err != nil {
		return nil, err
	}
	outputs := make([][]byte, len(m.signature.Outputs))
	for i := range outputs {
		outputs[i] = make([]byte, m.signature.Outputs[i].Size(rows))
	}
	return outputs, m.predict(ctx, rows, inputs, outputs, nil, nil)
}

// PredictInto is Predict into memory of the caller's: outputs[i] has the bytes of
// output i for so many rows. It allocates nothing while the connection works and
// ctx does not end. After an error the outputs are undefined, but not written to
// any more. Neither are the inputs read any more when it returns.
func (m *Model) PredictInto(ctx context.Context, rows int, inputs, outputs [][]byte) error {
	if err := m.check(rows, inputs); err != nil {
		return err
	}
	if err := fits("output", m.signature.Outputs, rows, outputs); err != nil {
		return err
	}
	return m.predict(ctx, rows, inputs, outputs, nil, nil)
}

// Inference is what the daemon calls a prediction among those that it captures: what became of it can be told later by this name.
// The zero value is none.
type Inference struct {
	connection [16]byte
	request    uint64
}

// String is the name, as `picket truth` takes it; empty for none, and from a daemon that names none.
func (i Inference) String() string {
	if i.connection == [16]byte{} {
		return ""
	}
	b := hex.AppendEncode(make([]byte, 0, 64), i.connection[:])
	return string(strconv.AppendUint(append(b, '-'), i.request, 10))
}

// PredictNamed is PredictInto, and returns what the daemon calls the prediction.
func (m *Model) PredictNamed(ctx context.Context, rows int, inputs, outputs [][]byte) (name Inference, err error) {
	if err := m.check(rows, inputs); err != nil {
		return Inference{}, err
	}
	if err := fits("output", m.signature.Outputs, rows, outputs); err != nil {
		return Inference{}, err
	}
	err = m.predict(ctx, rows, inputs, outputs, nil, &name)
	return name, err
}

// PredictFloat32 runs a model whose only input and only output are rows of
// float32 numbers: as many rows as features has.
func (m *Model) PredictFloat32(ctx context.Context, features []float32) ([]float32, error) {
	return m.predictFloat32(ctx, features, nil)
}

// ExplainFloat32 is PredictFloat32 with what each feature has contributed to the
// margin of its row: one value for each feature, in their order, and then the bias,
// whose sum is the margin that the score was made of; of a model with several margins,
// those of one after the other. The daemon must have loaded the model with explain: true.
func (m *Model) ExplainFloat32(ctx context.Context, features []float32) (scores, contributions []float32, err error) {
	scores, err = m.predictFloat32(ctx, features, &contributions)
	return scores, contributions, err
}

func (m *Model) predictFloat32(ctx context.Context, features []float32, explained *[]float32) ([]float32, error) {
	s := m.signature
	if len(s.Inputs) != 1 || len(s.Outputs) != 1 || !isFloats(&s.Inputs[0]) || !isFloats(&s.Outputs[0]) {
		return nil, invalid("model %q does not take one tensor of float32 rows and give one: use Predict", m.name)
	}
	data := tensor.AsBytes(features)
	n := s.Inputs[0].RowBytes
	if len(data) == 0 || len(data)%n != 0 {
		return nil, invalid("%d numbers are no rows of %d for model %q", len(features), n/4, m.name)
	}
	rows := len(data) / n
	if err := m.answerFits(rows); err != nil {
		return nil, err
	}
	scores := make([]float32, s.Outputs[0].Size(rows)/4)
	in, out := [1][]byte{data}, [1][]byte{tensor.AsBytes(scores)}
	if err := m.predict(ctx, rows, in[:], out[:], explained, nil); err != nil {
		return nil, err
	}
	return scores, nil
}

func isFloats(s *Spec) bool { return s.DType == tensor.FP32 && s.hasRows() && s.RowBytes > 0 }

func (m *Model) check(rows int, inputs [][]byte) error {
	if rows < 1 || int64(rows) > 1<<32-1 {
		return invalid("%d rows for model %q: at least 1 is needed", rows, m.name)
	}
	return fits("input", m.signature.Inputs, rows, inputs)
}

// answerFits refuses rows whose outputs are more than a frame of the daemon's can have. What the daemon says of its model is not
// believed when memory is taken.
func (m *Model) answerFits(rows int) error {
	limit := int(m.opened.Load().session.limits.MaxPayload)
	for left, i := limit, 0; i < len(m.signature.Outputs); i++ {
		s := &m.signature.Outputs[i]
		if s.RowBytes > left || (s.hasRows() && s.RowBytes > left/rows) {
			return invalid("the answer to %d rows for model %q would be larger than the daemon's limit of %d bytes: ask for fewer rows", rows, m.name, limit)
		}
		left -= s.Size(rows)
	}
	return nil
}

// fits compares what was given with what the signature says.
func fits(what string, specs []Spec, rows int, given [][]byte) error {
	if len(given) != len(specs) {
		return invalid("%d %ss were given, the model has %d", len(given), what, len(specs))
	}
	for i := range specs {
		if want := specs[i].Size(rows); len(given[i]) != want {
			return invalid("%s %q has %d bytes, %d rows of it are %d", what, specs[i].Name, len(given[i]), rows, want)
		}
	}
	return nil
}

// ExplainInto is PredictInto with the contributions of the features, as ExplainFloat32
// has them, into memory of the caller's that has room for just these.
func (m *Model) ExplainInto(ctx context.Context, rows int, inputs, outputs [][]byte, contributions []float32) error {
	if err := m.check(rows, inputs); err != nil {
		return err
	}
	if err := fits("output", m.signature.Outputs, rows, outputs); err != nil {
		return err
	}
	if len(contributions) == 0 {
		return invalid("there is no room for the contributions of model %q", m.name)
	}
	return m.predict(ctx, rows, inputs, outputs, &contributions, nil)
}

// predict asks, and asks once more if the connection was lost.
func (m *Model) predict(ctx context.Context, rows int, inputs, outputs [][]byte, explained *[]float32, name *Inference) error {
	for again := false; ; again = true {
		o, err := m.open(ctx)
		if err != nil {
			return fmt.Errorf("predicting with model %q: %w", m.name, err)
		}
		err = o.session.predict(ctx, o.handle, rows, inputs, outputs, explained, name)
		if err == nil {
			return nil
		}
		if again || ctx.Err() != nil || !o.session.isLost() {
			return fmt.Errorf("predicting with model %q: %w", m.name, err)
		}
	}
}

// open is the model on the client's session of now.
func (m *Model) open(ctx context.Context) (*opened, error) {
	if o := m.opened.Load(); o != nil && o.session.isUsable() {
		return o, nil
	}
	m.opening.Lock()
	defer m.opening.Unlock()
	if o := m.opened.Load(); o != nil && o.session.isUsable() {
		return o, nil
	}
	for again := false; ; again = true {
		s, err := m.client.session(ctx)
		if err != nil {
			return nil, err
		}
		handle, signature, err := s.open(ctx, m.name)
		switch {
		case err == nil && m.signature != nil && !m.signature.equal(signature):
			return nil, &Error{Code: FailedPrecondition, Sentence: fmt.Sprintf("another model is loaded as %q now, which takes or gives other tensors: ask the client for it again", m.name)}
		case err == nil:
			if m.signature == nil {
				m.signature = signature
			}
			o := &opened{s, handle}
			m.opened.Store(o)
			return o, nil
		case again || ctx.Err() != nil || !errors.Is(err, ErrUnavailable):
			return nil, err
		}
	}
}

package lane

import (
	"fmt"
	"strings"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/tensor"
)

// model is a model that a client has opened on its connection: a name and a
// signature. It holds nothing of the engine's, so an open model does not keep one
// from being unloaded, and whichever model has the name and takes the same tensors
// serves.
type model struct {
	name   string
	handle uint32
	// signature is that of the snapshot seen last, whose identity it is.
	signature *engine.Signature
	batchable bool
	maxRows   int
	shape     *shape

	// waiting are requests of what was read last; their payloads lie in the
	// reader's buffer.
	waiting []frame
}

// shape is what is to know of a signature to take requests apart and to put
// answers together. It does not change.
type shape struct {
	inputs, outputs []field
	in, out         amount
	contributions   field // no bytes where the model has none
}

// field is one tensor.
type field struct {
	bytes int // of one row, or of the whole tensor where it has no rows
	rows  bool
}

// size is the number of bytes of so many rows.
func (f field) size(rows int) int {
	if f.rows {
		return f.bytes * rows
	}
	return f.bytes
}

// amount is the bytes of the tensors of one side.
type amount struct {
	perRow, fixed uint64 // each at most tooLarge
}

// tooLarge is more than any frame has, and small enough to be multiplied by any
// number of rows.
const tooLarge = 1 << 31

// of is the bytes of so many rows; it does not overflow.
func (a amount) of(rows uint32) uint64 { return a.perRow*uint64(rows) + a.fixed }

// frame is one request as it was read.
type frame struct {
	id       uint64
	rows     uint32
	deadline uint32
	flags    uint32
	payload  []byte
}

func newShape(s *engine.Signature) (*shape, error) {
	sh := &shape{}
	for _, side := range []struct {
		specs  []engine.TensorSpec
		fields *[]field
		sum    *amount
	}{{s.Inputs, &sh.inputs, &sh.in}, {s.Outputs, &sh.outputs, &sh.out}} {
		for i := range side.specs {
			n, err := side.specs[i].RowBytes()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
			}
			f := field{n, side.specs[i].HasRows()}
			*side.fields = append(*side.fields, f)
			sum := &side.sum.fixed
			if f.rows {
				sum = &side.sum.perRow
			}
			*sum = min(*sum+uint64(min(n, tooLarge)), tooLarge)
		}
	}
	if s.Contributions != nil {
		n, err := s.Contributions.RowBytes()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
		}
		sh.contributions = field{n, s.Contributions.HasRows()}
	}
	return sh, nil
}

// outputBytes is what the answer to a request of so many rows takes.
func (sh *shape) outputBytes(rows, flags uint32) uint64 {
	n := sh.out.of(rows)
	if flags&lanewire.FlagExplain != 0 {
		n += uint64(min(sh.contributions.bytes, tooLarge)) * uint64(rows)
	}
	return n
}

// meet makes m that of the snapshot. It fails when another model with other
// tensors has got the name.
func (m *model) meet(s *engine.Snapshot) error {
	signature := s.Signature()
	if signature == m.signature {
		return nil
	}
	if m.signature != nil && !m.signature.Equal(*signature) {
		return fmt.Errorf("%w: another model is loaded as %q now, which takes or gives other tensors: open it again", engine.ErrSignature, m.name)
	}
	shape, err := newShape(signature)
	if err != nil {
		return err
	}
	d := s.Describe()
	m.signature, m.shape = signature, shape
	m.batchable, m.maxRows = signature.Batchable(), d.Options.MaxBatchRows
	return nil
}

// check refuses requests that do not fit. Errors wrap engine.ErrInvalidInput.
func (m *model) check(rows, flags uint32, payload int, maxPayload uint32) error {
	switch {
	case flags&^lanewire.FlagExplain > lanewire.FlagLow:
		return fmt.Errorf("%w: the flags %#x are neither 0, 1 for high nor 2 for low priority, with or without 4 for contributions", engine.ErrInvalidInput, flags)
	case rows == 0:
		return fmt.Errorf("%w: the request has no rows", engine.ErrInvalidInput)
	case rows > 1 && !m.batchable:
		return fmt.Errorf("%w: the request has %d rows, the model takes its fixed shape only, as 1 row", engine.ErrInvalidInput, rows)
	}
	if need := m.shape.in.of(rows); need != uint64(payload) {
		return fmt.Errorf("%w: the payload has %d bytes, %d rows of %s take %d", engine.ErrInvalidInput, payload, rows, inputs(m.signature), need)
	}
	if m.shape.outputBytes(rows, flags) > uint64(maxPayload) {
		return fmt.Errorf("%w: the answer to %d rows would be larger than the limit of %d bytes: ask for fewer rows", engine.ErrInvalidInput, rows, maxPayload)
	}
	return nil
}

// inputs names what a model takes.
func inputs(s *engine.Signature) string {
	if len(s.Inputs) == 1 {
		return s.Inputs[0].String()
	}
	return fmt.Sprintf("%s and %d more", s.Inputs[0], len(s.Inputs)-1)
}

// wireSpecs is a side of a signature as the protocol has it.
func wireSpecs(specs []engine.TensorSpec) []lanewire.Spec {
	out := make([]lanewire.Spec, len(specs))
	for i, s := range specs {
		out[i] = lanewire.Spec{Name: strings.ToValidUTF8(s.Name, "\uFFFD"), DType: s.DType, Dims: s.Dims}
	}
	return out
}

// fill copies the payload of a request of so many rows to where they begin in
// the tensors.
func (sh *shape) fill(to []tensor.Tensor, first, rows int, payload []byte) {
	for i, f := range sh.inputs {
		b := to[i].Bytes()
		if f.rows {
			b = b[first*f.bytes:]
		}
		payload = payload[copy(b, payload[:f.size(rows)]):]
	}
}

// parts appends the outputs of so many rows to dst.
func (sh *shape) parts(dst [][]byte, from []tensor.Tensor, first, rows int) [][]byte {
	for i, f := range sh.outputs {
		b := from[i].Bytes()
		if f.rows {
			b = b[first*f.bytes : (first+rows)*f.bytes]
		}
		dst = append(dst, b)
	}
	if n := len(sh.outputs); len(from) > n {
		size := sh.contributions.bytes
		dst = append(dst, from[n].Bytes()[first*size:(first+rows)*size])
	}
	return dst
}

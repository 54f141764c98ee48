package agent

import (
	"context"
	"fmt"
	"math"
	"math/bits"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/shm"
)

// input is a tensor of a request and the input of the model it is for.
type input struct {
	spec   *engine.TensorSpec
	tensor *agentapi.Tensor
	size   int // bytes, once measured

	// For tensors in shared memory.
	shared bool
	handle shm.Handle
	caller shm.Peer
}

// bind appends one input for each of the model's to dst, in the model's order.
// Tensors are matched by name, those without a name take the inputs that are
// left, in order. The name of the only tensor of a model with one input does not
// matter unless the service is strict: there is nothing to confuse it with.
// Errors wrap engine.ErrInvalidInput.
func (s *service) bind(dst []input, signature *engine.Signature, tensors []*agentapi.Tensor) ([]input, error) {
	specs := signature.Inputs
	if len(tensors) != len(specs) {
		return nil, fmt.Errorf("%w: the request has %s, the model has %s", engine.ErrInvalidInput, failure.Counted(len(tensors), "tensor"), failure.Counted(len(specs), "input"))
	}
	for i := range specs {
		dst = append(dst, input{spec: &specs[i]})
	}
	for n, t := range tensors {
		if t == nil {
			return nil, fmt.Errorf("%w: tensor %d is missing", engine.ErrInvalidInput, n)
		}
		name := t.GetTensorMetadata().GetName()
		if len(name) == 0 {
			continue
		}
		i := named(specs, name)
		if i < 0 && len(specs) == 1 && !s.strict {
			i = 0
		}
		if i < 0 {
			return nil, fmt.Errorf("%w: the model has no input %q; its first is %q", engine.ErrInvalidInput, failure.Clip(name), specs[0].Name)
		}
		if dst[i].tensor != nil {
			return nil, fmt.Errorf("%w: two tensors are named %q", engine.ErrInvalidInput, specs[i].Name)
		}
		dst[i].tensor = t
	}
	next := 0
	for _, t := range tensors {
		if len(t.GetTensorMetadata().GetName()) != 0 {
			continue
		}
		for dst[next].tensor != nil {
			next++
		}
		dst[next].tensor = t
	}
	return dst, nil
}

// named is the index of the input that is listed under name, or -1.
func named(specs []engine.TensorSpec, name []byte) int {
	for i := range specs {
		if string(name) == specs[i].Name || string(name) == failure.ValidText(specs[i].Name) {
			return i
		}
	}
	return -1
}

// measure finds out how many bytes each input has and how many rows all of them
// have. Nothing is read or allocated yet. Errors wrap engine.ErrInvalidInput.
func (s *service) measure(ctx context.Context, inputs []input) (rows int, err error) {
	for i := range inputs {
		in := &inputs[i]
		n, err := s.measureOne(ctx, in)
		if err != nil {
			return 0, fmt.Errorf("%w: input %q: %w", engine.ErrInvalidInput, in.spec.Name, err)
		}
		switch {
		case !in.spec.HasRows():
		case rows == 0:
			rows = n
		case rows != n:
			return 0, fmt.Errorf("%w: input %q has %s where another has %d", engine.ErrInvalidInput, in.spec.Name, failure.Counted(n, "row"), rows)
		}
	}
	return max(rows, 1), nil
}

// measureOne settles in.size and returns the number of rows, 1 for inputs that
// have none.
func (s *service) measureOne(ctx context.Context, in *input) (int, error) {
	h, err := readHint(in.tensor.GetTensorMetadata())
	if err != nil {
		return 0, err
	}
	rowBytes, err := in.spec.RowBytes()
	if err != nil {
		return 0, err
	}
	switch data := in.tensor.GetData().(type) {
	case *agentapi.Tensor_ByteData:
		in.size = len(data.ByteData)
	case *agentapi.Tensor_SharedMemoryHandle:
		if err := s.measureShared(ctx, in, data.SharedMemoryHandle, h, rowBytes); err != nil {
			return 0, err
		}
	default:
		return 0, fmt.Errorf("it carries no data: set byte_data or shared_memory_handle")
	}
	rows := 1
	switch {
	case !in.spec.HasRows():
		if in.size != rowBytes {
			return 0, fmt.Errorf("it has %s, %s takes %d", failure.Counted(in.size, "byte"), in.spec, rowBytes)
		}
	case rowBytes == 0 || in.size == 0 || in.size%rowBytes != 0:
		return 0, fmt.Errorf("it has %s, %s takes a multiple of %d, one or more rows", failure.Counted(in.size, "byte"), in.spec, rowBytes)
	default:
		rows = in.size / rowBytes
	}
	if s.strict {
		return rows, h.matches(in.spec, rows)
	}
	return rows, h.allows(in.spec, rows)
}

// measureShared looks at the segment that a handle names: a request for memory
// that is not there must not make the daemon allocate.
func (s *service) measureShared(ctx context.Context, in *input, wire *agentapi.SharedMemoryHandle, h hint, rowBytes int) error {
	who, err := local.CallerOf(ctx)
	if err != nil {
		return err
	}
	in.shared, in.caller = true, who
	in.handle = shm.Handle{ID: wire.GetSegmentId(), Offset: wire.GetOffset(), Size: wire.GetSize()}
	if in.handle.Size == 0 && in.spec.HasRows() && rowBytes > 0 && h.leavesRowsOpen(in.spec) {
		return s.measureRest(in, rowBytes)
	}
	// Without a size the tensor takes what its shape needs.
	need := uint64(rowBytes)
	if in.spec.HasRows() {
		high, low := bits.Mul64(need, uint64(h.rows(in.spec)))
		if need = low; high != 0 {
			need = math.MaxUint64 // which is above any limit
		}
	}
	if in.size, err = in.handle.Length(need, s.maxTensor); err != nil {
		return err
	}
	available, err := shm.Available(in.handle, who)
	if err != nil {
		return err
	}
	if uint64(in.size) > available {
		return &shm.Error{Kind: shm.ErrTooSmall}
	}
	return nil
}

// measureRest settles in.size where neither size nor shape say how many rows
// there are: the segment does, as the number of bytes does in a message.
func (s *service) measureRest(in *input, rowBytes int) error {
	available, err := shm.Available(in.handle, in.caller)
	if err != nil {
		return err
	}
	if available == 0 {
		return &shm.Error{Kind: shm.ErrTooSmall}
	}
	if available%uint64(rowBytes) != 0 {
		return fmt.Errorf("its segment holds %d bytes from the offset, %s takes a multiple of %d: send the size, or the number of rows in the shape", available, in.spec, rowBytes)
	}
	in.size, err = in.handle.Length(available, s.maxTensor)
	return err
}

// fill copies the tensor's bytes to dst, which has in.size of them.
func (in *input) fill(dst []byte) error {
	if len(dst) != in.size {
		panic("BUG: a request's tensor differs in size from what was measured")
	}
	if !in.shared {
		copy(dst, in.tensor.GetByteData())
		return nil
	}
	if err := shm.Copy(dst, in.handle, in.caller); err != nil {
		return fmt.Errorf("%w: input %q: %w", engine.ErrInvalidInput, in.spec.Name, err)
	}
	return nil
}

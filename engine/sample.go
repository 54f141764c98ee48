package engine

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/picket-ml/picket/tensor"
)

// Sampler may be implemented by a Model that knows what rows are typical for it.
// Time depends on them: of a tree model on how often a branch goes the other way.
type Sampler interface {
	// Sample fills in, the Signature's inputs for that many rows, with rows as
	// clients may send them, missing values included. It writes every byte, and
	// the same model gives the same rows. It is called from any thread.
	Sample(in []tensor.Tensor, rows int)
}

// newTensors allocates tensors for that many rows, which the caller releases.
func newTensors(specs []TensorSpec, rows int) ([]tensor.Tensor, error) {
	var made []tensor.Tensor
	for i := range specs {
		shape, err := specs[i].Shape(rows)
		var t tensor.Tensor
		if err == nil {
			t, err = tensor.New(specs[i].Name, specs[i].DType, shape)
		}
		if err != nil {
			releaseAll(made)
			return nil, fmt.Errorf("%w: %w", ErrMemory, err)
		}
		made = append(made, t)
	}
	return made, nil
}

// fillRandom fills t with numbers that no model has a reason to treat specially:
// normally distributed ones, and zeros and ones where they are whole, because
// those may be indices into tables of any size.
func fillRandom(t tensor.Tensor, random *rand.Rand) {
	switch t.DType {
	case tensor.FP32:
		each(t, func() float32 { return float32(random.NormFloat64()) })
	case tensor.FP64:
		each(t, random.NormFloat64)
	case tensor.BF16:
		each(t, func() uint16 { return uint16(math.Float32bits(float32(random.NormFloat64())) >> 16) })
	case tensor.FP16: // from 0.5 up to 2, of either sign
		each(t, func() uint16 { return uint16(random.Uint32())&0x8000 | 0x3800 + uint16(random.Uint32N(0x800)) })
	default:
		bytes, size := t.Bytes(), t.DType.Size()
		clear(bytes)
		for i := 0; i < len(bytes); i += size {
			bytes[i] = byte(random.Uint32N(2)) // little endian
		}
	}
}

func each[T tensor.Element](t tensor.Tensor, value func() T) {
	elements, err := tensor.View[T](t)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	for i := range elements {
		elements[i] = value()
	}
}

// Sample fills in, tensors of the Signature's inputs with that many rows, with rows
// that are typical for the model where its backend knows any, else with random
// numbers, the same every time.
func (s *Snapshot) Sample(in []tensor.Tensor, rows int) {
	if sampler, ok := s.model.(Sampler); ok {
		sampler.Sample(in, rows)
		return
	}
	sampleRandom(in)
}

// sampleRandom fills in with random numbers, the same every time.
func sampleRandom(in []tensor.Tensor) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range in {
		fillRandom(in[i], random)
	}
}

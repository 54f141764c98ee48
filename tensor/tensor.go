package tensor

import "fmt"

// Tensor is a named, typed, shaped range of a Buffer, row major and little
// endian. It is a value; copying it does not count a reference. Whoever stores
// a Tensor beyond a call retains its Buffer.
type Tensor struct {
	Name  string
	DType DType
	Shape Shape
	// Buffer holds the bytes. Nil for a tensor without elements.
	Buffer *Buffer
	// Offset is where the tensor starts in Buffer, in bytes.
	Offset int

	size int
}

// New allocates a Buffer for a tensor of that type and shape. The caller owns
// the one reference and gives it back with t.Buffer.Release. The bytes are not
// cleared.
func New(name string, d DType, s Shape) (Tensor, error) {
	size, err := s.ByteSize(d)
	if err != nil {
		return Tensor{}, fmt.Errorf("allocating tensor %q: %w", name, err)
	}
	b, err := Alloc(size)
	if err != nil {
		return Tensor{}, fmt.Errorf("allocating tensor %q: %w", name, err)
	}
	return Tensor{Name: name, DType: d, Shape: s, Buffer: b, size: size}, nil
}

// In is a tensor laid over b from offset on, without copying and without
// counting a reference. It fails when the tensor does not fit b.
func In(name string, d DType, s Shape, b *Buffer, offset int) (Tensor, error) {
	size, err := s.ByteSize(d)
	if err != nil {
		return Tensor{}, fmt.Errorf("placing tensor %q: %w", name, err)
	}
	if offset < 0 || offset > b.Len() || size > b.Len()-offset {
		return Tensor{}, fmt.Errorf("placing tensor %q: %d bytes at offset %d do not fit a buffer of %d", name, size, offset, b.Len())
	}
	return Tensor{Name: name, DType: d, Shape: s, Buffer: b, Offset: offset, size: size}, nil
}

// Size is the number of bytes.
func (t Tensor) Size() int { return t.size }

// Bytes is the tensor's memory, valid while a reference on its Buffer is held.
func (t Tensor) Bytes() []byte {
	if t.Buffer == nil {
		return nil
	}
	return t.Buffer.Bytes()[t.Offset : t.Offset+t.size : t.Offset+t.size]
}

// Rows is the part of t from row lo up to and not including row hi: no copy,
// no reference counted. It panics when the rows are not there, as slicing does.
func (t Tensor) Rows(lo, hi int) Tensor {
	n := t.Shape.Dim(0)
	if lo < 0 || hi < lo || int64(hi) > n {
		panic(fmt.Sprintf("BUG: rows %d to %d of tensor %q, which has %d", lo, hi, t.Name, n))
	}
	if n == 0 {
		return t
	}
	stride := t.size / int(n)
	shape, err := t.Shape.WithRows(int64(hi - lo))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	t.Shape, t.Offset, t.size = shape, t.Offset+lo*stride, (hi-lo)*stride
	return t
}

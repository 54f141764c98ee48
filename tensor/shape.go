package tensor

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// MaxRank is the largest number of dimensions a Shape can have.
const MaxRank = 8

// Shape is the dimensions of a tensor, outermost first, in elements. It is a
// value: comparable, and free to copy. The zero Shape is that of a scalar.
type Shape struct {
	dims [MaxRank]int64
	rank uint8
	// elements is the product of dims, less one, so that the zero Shape, a
	// scalar, has one element.
	elementsLess1 int64
}

// NewShape checks that there are at most MaxRank dimensions, that none is
// negative and that their product fits an int64. A product that overflows is
// an error even where another dimension is 0, because the next reader of the
// dimensions may multiply in another order.
func NewShape(dims ...int64) (Shape, error) {
	if len(dims) > MaxRank {
		return Shape{}, fmt.Errorf("shape has %d dimensions, the limit is %d", len(dims), MaxRank)
	}
	s := Shape{rank: uint8(len(dims))}
	product, nonzero := int64(1), int64(1)
	for i, d := range dims {
		if d < 0 {
			return Shape{}, fmt.Errorf("dimension %d of the shape is negative: %d", i, d)
		}
		if d > 0 {
			if nonzero > math.MaxInt64/d {
				// A copy, because what is formatted escapes to the heap, and the
				// dimensions of a good shape should not.
				return Shape{}, fmt.Errorf("shape %v has more elements than fit 64 bits", slices.Clone(dims))
			}
			nonzero *= d
		}
		product *= d
		s.dims[i] = d
	}
	s.elementsLess1 = product - 1
	return s, nil
}

// MustShape is NewShape for dimensions known to be right; it panics otherwise.
func MustShape(dims ...int64) Shape {
	s, err := NewShape(dims...)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return s
}

// Rank is the number of dimensions.
func (s Shape) Rank() int { return int(s.rank) }

// Dim is the size of dimension i; it panics when i is not below Rank.
func (s Shape) Dim(i int) int64 { return s.dims[:s.rank][i] }

// AppendDims appends the dimensions to dst.
func (s Shape) AppendDims(dst []int64) []int64 { return append(dst, s.dims[:s.rank]...) }

// Elements is the number of elements, 1 for a scalar.
func (s Shape) Elements() int64 { return s.elementsLess1 + 1 }

// ByteSize is the number of bytes of a dense tensor of this shape; an error
// when it does not fit an int or d has no fixed size.
func (s Shape) ByteSize(d DType) (int, error) {
	size := d.Size()
	if size == 0 {
		return 0, fmt.Errorf("element type %s has no fixed size", d)
	}
	if s.Elements() > int64(math.MaxInt/size) {
		return 0, fmt.Errorf("a tensor of shape %s and type %s does not fit the address space", s, d)
	}
	return int(s.Elements()) * size, nil
}

// WithRows is the shape with its first dimension replaced. It fails as NewShape
// does, and for a scalar, which has no first dimension.
func (s Shape) WithRows(rows int64) (Shape, error) {
	if s.rank == 0 {
		return Shape{}, fmt.Errorf("a scalar has no rows")
	}
	dims := s.dims
	dims[0] = rows
	return NewShape(dims[:s.rank]...)
}

// String is the shape as people write it, such as "[2, 30]".
func (s Shape) String() string {
	b := []byte{'['}
	for i, d := range s.dims[:s.rank] {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, d, 10)
	}
	return string(append(b, ']'))
}

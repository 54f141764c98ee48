package oip

import (
	"errors"
	"fmt"

	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/tensor"
)

// copyNumbers writes the numbers of a JSON array to dst, which has room for those
// of the shape. The array is flat, or nested as the shape says. null is NaN.
func copyNumbers(dst []byte, text []byte, d tensor.DType, shape []int64) error {
	n := numbers{scanner: scanner{text: text}, dst: dst[:0:len(dst)], dtype: d, shape: shape}
	if n.peek() != '[' {
		return errors.New("its data is not an array")
	}
	err := n.level(0)
	if err != nil {
		return err
	}
	if len(n.dst) != len(dst) {
		return fmt.Errorf("its data has %d elements, its shape makes %d", len(n.dst)/d.Size(), len(dst)/d.Size())
	}
	return nil
}

// numbers is the reading of an array.
type numbers struct {
	scanner
	dst   []byte
	dtype tensor.DType
	shape []int64
}

// level reads the array at that depth.
func (n *numbers) level(depth int) error {
	count := int64(0)
	nested := false
	err := n.array(func() error {
		count++
		if n.peek() == '[' {
			if depth+1 >= len(n.shape) {
				return fmt.Errorf("its data is nested deeper than its shape, which has %d dimensions", len(n.shape))
			}
			if !nested && count > 1 {
				return errors.New("its data has a number and an array side by side")
			}
			nested = true
			return n.level(depth + 1)
		}
		if nested {
			return errors.New("its data has an array and a number side by side")
		}
		return n.element()
	})
	if err != nil {
		return err
	}
	// The outermost array may be flat, and then has as many as all dimensions make.
	if (nested || depth > 0) && count != n.shape[depth] {
		return fmt.Errorf("its data has %d entries in dimension %d, its shape has %d", count, depth, n.shape[depth])
	}
	if !nested && depth > 0 && depth != len(n.shape)-1 {
		return fmt.Errorf("its data is nested %d deep, its shape has %d dimensions; send it flat, or nested as the shape", depth+1, len(n.shape))
	}
	return nil
}

// element reads one number.
func (n *numbers) element() error {
	if len(n.dst)+n.dtype.Size() > cap(n.dst) {
		return fmt.Errorf("its data has more elements than its shape makes, which is %d", cap(n.dst)/n.dtype.Size())
	}
	var err error
	start := n.at
	switch n.text[start] {
	case 'n', 't', 'f':
		if n.skipWord("null") {
			if n.dst, err = rows.AppendMissing(n.dst, n.dtype); err != nil {
				return fmt.Errorf("its data has null, which %w", err)
			}
			return nil
		}
		if !n.skipWord("true") && !n.skipWord("false") {
			return n.wrong("a number")
		}
		if n.dtype != tensor.Bool {
			return fmt.Errorf("its data has %s, which is no %s", n.text[start:n.at], n.dtype)
		}
	case '"':
		return errors.New("its data has a string; no model takes any")
	default:
		if _, err = n.number(); err != nil {
			return err
		}
	}
	text := n.text[start:n.at]
	if n.dst, err = rows.AppendNumber(n.dst, n.dtype, string(text)); err != nil {
		return fmt.Errorf("its data has %.40q, which %w", text, err)
	}
	return nil
}

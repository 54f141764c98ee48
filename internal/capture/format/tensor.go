package format

import (
	"fmt"
	"math"
	"strconv"

	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/tensor"
)

// Tensor is a tensor as it may leave.
type Tensor struct {
	Name  string
	DType tensor.DType
	// Shape is the dimensions, outermost first; those of Data.
	Shape []int64
	// Data is the elements, row major and little endian. Of a column that Text holds
	// the elements are zero.
	Data []byte
	// Columns are the columns of a table, in order; nil where the tensor is none.
	Columns []Column
	// Opaque says that the bytes are not as many as shape and type need, which is so where
	// a client captured something else than it says: they are bytes and no numbers.
	Opaque bool
}

// Column is one feature of a table.
type Column struct {
	Name string
	// Text is one word for each row, for what is no number any more; nil for numbers.
	Text []string
}

// Table tells how many rows and columns the tensor has as a table: its first dimension is
// rows, and a tensor of one dimension has one column. Scalars, tensors of three and more
// dimensions, and opaque ones are none.
func (t *Tensor) Table() (rowCount, columns int, ok bool) {
	switch {
	case t.Opaque:
	case len(t.Shape) == 1:
		return int(t.Shape[0]), 1, true
	case len(t.Shape) == 2:
		return int(t.Shape[0]), int(t.Shape[1]), true
	}
	return 0, 0, false
}

// Check fails where the bytes are not as many as shape and type say, or columns do not
// fit them. Everything in this package takes a Tensor that passed, or is Opaque.
func (t *Tensor) Check() error {
	size := t.DType.Size()
	if size == 0 {
		return fmt.Errorf("tensor %q has elements of type %s, which have no fixed size", t.Name, t.DType)
	}
	shape, err := tensor.NewShape(t.Shape...)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	want, err := shape.ByteSize(t.DType)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	if want != len(t.Data) {
		return fmt.Errorf("tensor %q has %d bytes, and its shape %s of %s needs %d", t.Name, len(t.Data), shape, t.DType, want)
	}
	if t.Columns == nil {
		return nil
	}
	rowCount, columns, ok := t.Table()
	if !ok || columns != len(t.Columns) {
		return fmt.Errorf("tensor %q of shape %s has %d columns", t.Name, shape, len(t.Columns))
	}
	for _, c := range t.Columns {
		if c.Text != nil && len(c.Text) != rowCount {
			return fmt.Errorf("column %q of tensor %q has %d words for %d rows", c.Name, t.Name, len(c.Text), rowCount)
		}
	}
	return nil
}

// Numbers tells whether the tensor is numbers throughout, so that Data is all of it.
func (t *Tensor) Numbers() bool {
	for _, c := range t.Columns {
		if c.Text != nil {
			return false
		}
	}
	return true
}

// Element is the bytes of element i.
func (t *Tensor) Element(i int) []byte {
	size := t.DType.Size()
	return t.Data[i*size : (i+1)*size]
}

// AppendElement appends an element's number with as few digits as bring back the same;
// "nan", "inf" and "-inf" for what is none. data is the bytes of one element.
func AppendElement(dst, data []byte, d tensor.DType) []byte {
	out, err := rows.Append(dst, data, d, rows.Text)
	if err != nil {
		panic("BUG: " + err.Error()) // the type and the length were checked
	}
	return out
}

// appendCSV appends a field: nothing for a missing value.
func appendCSV(dst, data []byte, d tensor.DType) []byte {
	start := len(dst)
	dst = AppendElement(dst, data, d)
	if string(dst[start:]) == "nan" {
		return dst[:start]
	}
	return dst
}

// appendJSON appends a value: null for a missing one, and a string for infinities, of
// which JSON has no numbers.
func appendJSON(dst, data []byte, d tensor.DType) []byte {
	start := len(dst)
	dst = AppendElement(dst, data, d)
	switch word := string(dst[start:]); word {
	case "nan":
		return append(dst[:start], "null"...)
	case "inf", "-inf":
		return strconv.AppendQuote(dst[:start], word)
	}
	return dst
}

// Float is an element as float64: exact but for whole numbers above 2^53. data is the
// bytes of one element.
func Float(data []byte, d tensor.DType) float64 {
	var scratch [32]byte
	text := AppendElement(scratch[:0], data, d)
	switch string(text) {
	case "true":
		return 1
	case "false":
		return 0
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil && !math.IsInf(v, 0) {
		panic("BUG: " + err.Error())
	}
	return v
}

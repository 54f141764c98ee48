package rows

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/picket-ml/picket/tensor"
)

// maxToken bounds what is kept of one number while it is read: far more than a number needs, and little enough that a
// file of anything else is refused at once. maxName does the same for the name of an input.
const (
	maxToken = 256
	maxName  = 4096
)

// source is a text form of rows.
type source interface {
	// next appends the next row to dst, which has a slice for each input. It returns io.EOF when there is none. What it
	// appended before another error is undone by the caller.
	next(dst [][]byte) error
}

// Reader reads rows. It is for one goroutine.
type Reader struct {
	in     *bufio.Reader
	inputs []Input
	from   source // nil until the first byte says which
	row    int    // of the row being read, from 1
	err    error  // what ended the reading
}

// NewReader reads rows for inputs from r. Whether they are CSV or JSON is decided by the first character that is not
// blank.
func NewReader(r io.Reader, inputs []Input) (*Reader, error) {
	if len(inputs) == 0 {
		return nil, errors.New("the model has no inputs")
	}
	for _, in := range inputs {
		if in.Elements <= 0 {
			return nil, fmt.Errorf("input %q has no elements", in.Name)
		}
		if !known(in.DType) {
			return nil, fmt.Errorf("input %q is of type %v, which has no form as text", in.Name, in.DType)
		}
	}
	return &Reader{in: bufio.NewReaderSize(r, 64<<10), inputs: inputs}, nil
}

// Read appends the bytes of the next row to dst, which has one slice for each input; the numbers are little-endian. It
// returns io.EOF after the last row. Any other error says where and what in a sentence; dst then is as long as it was,
// and every later call returns the same error.
func (r *Reader) Read(dst [][]byte) error {
	if r.err != nil {
		return r.err
	}
	if r.from == nil {
		if r.err = r.recognise(); r.err != nil {
			return r.err
		}
	}
	lengths := make([]int, len(dst))
	for i := range dst {
		lengths[i] = len(dst[i])
	}
	r.row++
	if r.err = r.from.next(dst); r.err != nil {
		for i := range dst {
			dst[i] = dst[i][:lengths[i]]
		}
	}
	return r.err
}

// recognise decides which form the text has.
func (r *Reader) recognise() error {
	if mark, err := r.in.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" { // the byte order mark of Windows' UTF-8
		if _, err := r.in.Discard(len(mark)); err != nil {
			return r.broken(err)
		}
	}
	first, err := r.peekSolid()
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		return r.broken(err)
	case first == '[' || first == '{':
		r.from = &jsonSource{r: r}
	default:
		r.from = &csvSource{r: r}
	}
	return nil
}

// peekSolid skips blanks and gives the next byte without taking it.
func (r *Reader) peekSolid() (byte, error) {
	for {
		c, err := r.in.ReadByte()
		if err != nil {
			return 0, err
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c, r.in.UnreadByte()
		}
	}
}

// broken says that the input itself, not what is written in it, could not be read.
func (r *Reader) broken(err error) error {
	return fmt.Errorf("reading row %d: %w", max(r.row, 1), err)
}

// place names a number for messages. The input is named where there are several.
func (r *Reader) place(input, column int) string {
	if len(r.inputs) == 1 {
		return fmt.Sprintf("row %d, column %d", r.row, column+1)
	}
	return fmt.Sprintf("row %d, input %q, column %d", r.row, r.inputs[input].Name, column+1)
}

// wrongCount says that a row is too short or too long.
func (r *Reader) wrongCount(input, have int) error {
	if len(r.inputs) == 1 {
		return fmt.Errorf("row %d has %s; the model takes %s a row", r.row, numbers(have), numbers(r.inputs[input].Elements))
	}
	return fmt.Errorf("row %d has %s for input %q; the model takes %s there", r.row, numbers(have), r.inputs[input].Name, numbers(r.inputs[input].Elements))
}

// wrongNumber says that a text is no number that the input can hold.
func (r *Reader) wrongNumber(input, column int, text string, reason error) error {
	if text == "" {
		text = "an empty value"
	} else {
		text = quoted(text)
	}
	hint := ""
	if _, isCSV := r.from.(*csvSource); isCSV && r.row == 1 && errors.Is(reason, errNoNumber) {
		hint = ", and CSV is read without a header line"
	}
	return fmt.Errorf("%s: %s %w; the model takes %s a row%s", r.place(input, column), text, reason, numbers(r.inputs[input].Elements), hint)
}

// quoted is text as a message shows it, cut when it is long.
func quoted(text string) string {
	const most = 40
	if len(text) > most {
		return fmt.Sprintf("%q...", text[:most])
	}
	return fmt.Sprintf("%q", text)
}

// element appends one number, or the mark of a missing one.
func (r *Reader) element(dst []byte, input, column int, text string, missing bool) ([]byte, error) {
	d := r.inputs[input].DType
	var err error
	if missing {
		dst, err = AppendMissing(dst, d)
	} else {
		dst, err = AppendNumber(dst, d, text)
	}
	if err != nil {
		return dst, r.wrongNumber(input, column, text, err)
	}
	return dst, nil
}

// known tells whether numbers of the type can be read and written.
func known(d tensor.DType) bool {
	return d.Size() > 0
}

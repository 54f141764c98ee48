package rows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// csvSource reads a row per line.
type csvSource struct {
	r     *Reader
	field []byte // reused
}

func (s *csvSource) next(dst [][]byte) error {
	if len(s.r.inputs) > 1 {
		return fmt.Errorf("the model takes %d inputs (%s), which CSV cannot tell apart; give JSON rows such as {%q: [...], ...}",
			len(s.r.inputs), names(s.r.inputs), s.r.inputs[0].Name)
	}
	// Blanks at the start of a line do not matter to its first number, so skipping empty lines may take them too.
	if _, err := s.r.peekSolid(); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return s.r.broken(err)
	}
	want := s.r.inputs[0].Elements
	for column := 0; ; column++ {
		last, err := s.readField()
		if err != nil {
			return s.r.broken(err)
		}
		if column < want { // what is too much is only counted
			text, missing := Field(s.field)
			if len(s.field) > maxToken {
				return s.r.wrongNumber(0, column, string(text), errNoNumber)
			}
			if dst[0], err = s.r.element(dst[0], 0, column, string(text), missing); err != nil {
				return err
			}
		}
		if last {
			if column+1 != want {
				return s.r.wrongCount(0, column+1)
			}
			return nil
		}
	}
}

// readField reads up to the next comma or the end of the line, keeping a little more than maxToken of it at most. It
// tells whether the field was the last of its line.
func (s *csvSource) readField() (last bool, err error) {
	s.field = s.field[:0]
	for {
		c, err := s.r.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) || c == '\n':
			return true, nil
		case err != nil:
			return false, err
		case c == ',':
			return false, nil
		case len(s.field) <= maxToken:
			s.field = append(s.field, c)
		}
	}
}

// Field is the text of a field of CSV without blanks and quotes around it, for AppendNumber, or says that it stands for a
// missing value, for AppendMissing.
func Field(field []byte) (text []byte, missing bool) {
	text = unquoted(bytes.TrimSpace(field))
	return text, isNaN(text)
}

// unquoted takes off the quotes that some programs put around every field.
func unquoted(text []byte) []byte {
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		return text[1 : len(text)-1]
	}
	return text
}

// isNaN tells whether the field stands for a missing value.
func isNaN(text []byte) bool {
	if len(text) == 4 && (text[0] == '-' || text[0] == '+') { // C prints the sign of a NaN
		text = text[1:]
	}
	return len(text) == 0 || bytes.EqualFold(text, []byte("nan"))
}

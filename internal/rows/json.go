package rows

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// jsonSource reads rows as JSON. It looks at bytes itself because encoding/json would keep a string or a number of any
// length in memory, and an array of rows whole.
type jsonSource struct {
	r       *Reader
	started bool
	wrapped bool // the rows are the elements of one array
	ended   bool // the array of rows was closed
	opened  bool // the bracket of the next row was taken while looking what it was
	token   []byte
}

func (s *jsonSource) next(dst [][]byte) error {
	if !s.started {
		s.started = true
		if err := s.start(); err != nil {
			return s.located(err)
		}
	} else if s.wrapped && !s.ended {
		c, err := s.solid()
		switch {
		case err != nil:
			return s.located(err)
		case c == ']':
			s.ended = true
		case c != ',':
			return fmt.Errorf("row %d: found %q where a comma or the end of the array of rows was expected", s.r.row, c)
		}
	}
	if s.wrapped && s.ended {
		if _, err := s.r.peekSolid(); err == nil {
			return fmt.Errorf("after row %d: there is text after the end of the array of rows", s.r.row-1)
		} else if !errors.Is(err, io.EOF) {
			return s.r.broken(err)
		}
		return io.EOF
	}
	if !s.opened && !s.wrapped {
		if _, err := s.r.peekSolid(); errors.Is(err, io.EOF) { // only between rows may the input end
			return io.EOF
		}
	}
	return s.located(s.rowInto(dst))
}

// start finds out whether the rows are in an array. It takes the first bracket.
func (s *jsonSource) start() error {
	c, err := s.r.peekSolid()
	if err != nil || c == '{' {
		return err
	}
	if _, err := s.solid(); err != nil {
		return err
	}
	switch c, err = s.r.peekSolid(); {
	case err != nil:
		return err
	case c == '[' || c == '{':
		s.wrapped = true
	case c == ']': // an array of no rows
		s.wrapped, s.ended = true, true
		_, err = s.solid()
		return err
	default:
		s.opened = true
	}
	return nil
}

// rowInto reads one row, an array or an object.
func (s *jsonSource) rowInto(dst [][]byte) error {
	if s.opened {
		s.opened = false
		return s.plainRow(dst)
	}
	c, err := s.solid()
	switch {
	case err != nil:
		return err
	case c == '[':
		return s.plainRow(dst)
	case c == '{':
		return s.namedRow(dst)
	}
	return fmt.Errorf("row %d: found %q where a row was expected, an array of numbers or an object of arrays by input name", s.r.row, c)
}

// plainRow reads the rest of a row whose bracket was taken.
func (s *jsonSource) plainRow(dst [][]byte) error {
	if len(s.r.inputs) > 1 {
		return fmt.Errorf("row %d: the model takes %d inputs (%s); write a row as an object such as {%q: [...], ...}",
			s.r.row, len(s.r.inputs), names(s.r.inputs), s.r.inputs[0].Name)
	}
	var err error
	dst[0], err = s.array(dst[0], 0)
	return err
}

// namedRow reads the rest of a row whose brace was taken.
func (s *jsonSource) namedRow(dst [][]byte) error {
	seen := make([]bool, len(s.r.inputs))
	for n := 0; ; n++ {
		c, err := s.solid()
		if err != nil {
			return err
		}
		if c == '}' && n == 0 {
			break
		}
		if c != '"' {
			return fmt.Errorf("row %d: found %q where the name of an input in quotes was expected", s.r.row, c)
		}
		name, err := s.name()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.r.inputs, func(in Input) bool { return in.Name == name })
		switch {
		case i < 0:
			return fmt.Errorf("row %d: the model has no input %s; it takes %s", s.r.row, quoted(name), names(s.r.inputs))
		case seen[i]:
			return fmt.Errorf("row %d: input %q is given twice", s.r.row, name)
		}
		seen[i] = true
		for _, expected := range []byte(":[") {
			if c, err = s.solid(); err != nil {
				return err
			}
			if c != expected {
				return fmt.Errorf("row %d, input %q: found %q where %q was expected; write {%q: [...]}", s.r.row, name, c, expected, name)
			}
		}
		if dst[i], err = s.array(dst[i], i); err != nil {
			return err
		}
		if c, err = s.solid(); err != nil {
			return err
		}
		if c == '}' {
			break
		}
		if c != ',' {
			return fmt.Errorf("row %d: found %q after input %q where a comma or } was expected", s.r.row, c, name)
		}
	}
	if i := slices.Index(seen, false); i >= 0 {
		return fmt.Errorf("row %d: input %q is missing; the model takes %s", s.r.row, s.r.inputs[i].Name, names(s.r.inputs))
	}
	return nil
}

// array reads the rest of an array whose bracket was taken into input i.
func (s *jsonSource) array(dst []byte, i int) ([]byte, error) {
	want := s.r.inputs[i].Elements
	for column := 0; ; column++ {
		c, err := s.solid()
		if err != nil {
			return dst, err
		}
		if c == ']' && column == 0 {
			return dst, s.r.wrongCount(i, 0)
		}
		if c == ']' || c == ',' {
			return dst, fmt.Errorf("%s: found %q where a number was expected", s.r.place(i, column), c)
		}
		if err := s.value(c, i, column); err != nil {
			return dst, err
		}
		if column < want { // what is too much is only counted
			if dst, err = s.number(dst, i, column); err != nil {
				return dst, err
			}
		}
		if c, err = s.solid(); err != nil {
			return dst, err
		}
		if c == ']' {
			if column+1 != want {
				return dst, s.r.wrongCount(i, column+1)
			}
			return dst, nil
		}
		if c != ',' {
			return dst, fmt.Errorf("%s: found %q where a comma or ] was expected", s.r.place(i, column), c)
		}
	}
}

// value reads a bare word or number that starts with c into s.token.
func (s *jsonSource) value(c byte, i, column int) error {
	switch c {
	case '[', '{':
		return fmt.Errorf("%s: an array or object inside a row; a row is one flat array of %s", s.r.place(i, column), numbers(s.r.inputs[i].Elements))
	case '"':
		text, err := s.name()
		if err != nil {
			return err
		}
		return s.r.wrongNumber(i, column, text, errNoNumber)
	}
	s.token = append(s.token[:0], c)
	for {
		c, err := s.r.in.ReadByte()
		if err != nil {
			return err
		}
		switch c {
		case ',', ']', '}', ':', '[', '{', '"', ' ', '\t', '\r', '\n':
			return s.r.in.UnreadByte()
		}
		if len(s.token) == maxToken {
			return s.r.wrongNumber(i, column, string(s.token), errNoNumber)
		}
		s.token = append(s.token, c)
	}
}

// number appends what s.token says.
func (s *jsonSource) number(dst []byte, i, column int) ([]byte, error) {
	text := string(s.token)
	switch text {
	case "null", "NaN": // NaN and the infinities are what Python's json writes
		return s.r.element(dst, i, column, text, true)
	case "Infinity", "-Infinity":
	default:
		if first := text[0]; (first != '-' && (first < '0' || first > '9')) || !json.Valid(s.token) {
			return dst, s.r.wrongNumber(i, column, text, errNoNumber)
		}
	}
	return s.r.element(dst, i, column, text, false)
}

// name reads the rest of a string whose quote was taken.
func (s *jsonSource) name() (string, error) {
	s.token = append(s.token[:0], '"')
	for escaped := false; ; {
		c, err := s.r.in.ReadByte()
		if err != nil {
			return "", err
		}
		if len(s.token) == maxName {
			return "", fmt.Errorf("row %d: a text of more than %d characters is neither a number nor the name of an input", s.r.row, maxName)
		}
		s.token = append(s.token, c)
		if c == '"' && !escaped {
			break
		}
		escaped = c == '\\' && !escaped
	}
	var text string
	if err := json.Unmarshal(s.token, &text); err != nil {
		return "", fmt.Errorf("row %d: a text that is not valid JSON: %w", s.r.row, err)
	}
	return text, nil
}

// solid takes the next byte that is not blank.
func (s *jsonSource) solid() (byte, error) {
	if _, err := s.r.peekSolid(); err != nil {
		return 0, err
	}
	return s.r.in.ReadByte()
}

// located turns the end of the input in the middle of a row into a sentence.
func (s *jsonSource) located(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("row %d: the input ends before the row or the array does; it was cut off", s.r.row)
	}
	return err
}

package ensemble

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonSource reads JSON as XGBoost writes it, which is not quite JSON: numbers may be NaN, Infinity and -Infinity
// (encoding/json refuses them), so this is a reader of its own.
type jsonSource struct {
	data  []byte
	pos   int
	depth int // levels that may still be opened
}

func newJSON(data []byte, nesting int) *jsonSource { return &jsonSource{data: data, depth: nesting} }

func (s *jsonSource) errorf(format string, args ...any) error {
	return fmt.Errorf("at byte %d: "+format, append([]any{s.pos}, args...)...)
}

// peek is the next byte after white space, 0 at the end.
func (s *jsonSource) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

func (s *jsonSource) expect(c byte, what string) error {
	got := s.peek()
	if s.pos == len(s.data) {
		return s.errorf("the file ends where %s should be", what)
	}
	if got != c {
		return s.errorf("%q found where %s should be", got, what)
	}
	s.pos++
	return nil
}

func (s *jsonSource) open(c byte, what string) error {
	if err := s.expect(c, what); err != nil {
		return err
	}
	if s.depth == 0 {
		return s.errorf("objects and arrays are nested too deeply")
	}
	s.depth--
	return nil
}

// more moves past the separator before the next element, or past the closing bracket.
func (s *jsonSource) more(first bool, closing byte) (bool, error) {
	c := s.peek()
	switch {
	case s.pos == len(s.data):
		return false, s.errorf("the file ends inside a list: it is cut short")
	case c == closing:
		s.pos++
		s.depth++
		return false, nil
	case first:
		return true, nil
	case c != ',':
		return false, s.errorf("%q found where a comma should be", c)
	}
	s.pos++
	return true, nil
}

func (s *jsonSource) object(field func(string) error) error {
	if err := s.open('{', "an object"); err != nil {
		return err
	}
	for first := true; ; first = false {
		ok, err := s.more(first, '}')
		if !ok || err != nil {
			return err
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.expect(':', "a colon"); err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
	}
}

func (s *jsonSource) array(element func(int) error) error {
	if err := s.open('[', "an array"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		ok, err := s.more(i == 0, ']')
		if !ok || err != nil {
			return err
		}
		if err := element(i); err != nil {
			return err
		}
	}
}

// str consumes a string. Its length is bounded by the file's.
func (s *jsonSource) str() (string, error) {
	if err := s.expect('"', "a string"); err != nil {
		return "", err
	}
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] != '"' && s.data[s.pos] != '\\' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '"' {
		s.pos++
		return string(s.data[start : s.pos-1]), nil
	}
	var b strings.Builder
	b.Write(s.data[start:s.pos])
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		s.pos++
		switch c {
		case '"':
			return b.String(), nil
		case '\\':
			if err := s.escape(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", s.errorf("the file ends inside a string: it is cut short")
}

func (s *jsonSource) escape(b *strings.Builder) error {
	if s.pos == len(s.data) {
		return s.errorf("the file ends inside a string: it is cut short")
	}
	c := s.data[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/':
		b.WriteByte(c)
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'u':
		r, err := s.hex4()
		if err != nil {
			return err
		}
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if s.pos+1 < len(s.data) && s.data[s.pos] == '\\' && s.data[s.pos+1] == 'u' {
				s.pos += 2
				if low, err = s.hex4(); err != nil {
					return err
				}
			}
			r = utf16.DecodeRune(r, low)
		}
		b.WriteRune(r)
	default:
		return s.errorf("unknown escape \\%c in a string", c)
	}
	return nil
}

func (s *jsonSource) hex4() (rune, error) {
	if len(s.data)-s.pos < 4 {
		return 0, s.errorf("the file ends inside a string: it is cut short")
	}
	v, err := strconv.ParseUint(string(s.data[s.pos:s.pos+4]), 16, 16)
	if err != nil {
		return 0, s.errorf("\\u is not followed by four hexadecimal digits")
	}
	s.pos += 4
	return rune(v), nil
}

// word consumes a bare token: a number, true, false, null, NaN, Infinity.
func (s *jsonSource) word() ([]byte, error) {
	s.peek()
	start := s.pos
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '+' && c != '.' {
			break
		}
		s.pos++
	}
	switch {
	case s.pos == start && s.pos == len(s.data):
		return nil, s.errorf("the file ends where a value should be: it is cut short")
	case s.pos == start:
		return nil, s.errorf("%q found where a number should be", s.data[s.pos])
	case s.pos-start > 64:
		return nil, s.errorf("a number is %d characters long", s.pos-start)
	}
	return s.data[start:s.pos], nil
}

func (s *jsonSource) text() (string, error) {
	if s.peek() == '"' {
		return s.str()
	}
	w, err := s.word()
	return string(w), err
}

func (s *jsonSource) floats() ([]float32, error) {
	var out []float32
	err := s.array(func(int) error {
		w, err := s.word()
		if err != nil {
			return err
		}
		v, err := parseFloat32(string(w))
		if err != nil {
			return s.errorf("%w", err)
		}
		out = append(out, v)
		return nil
	})
	return out, err
}

// parseFloat32 rounds decimal text once, to the nearest float32, as XGBoost does.
func parseFloat32(w string) (float32, error) {
	switch w {
	case "NaN", "nan", "-nan":
		return float32(math.NaN()), nil
	case "Infinity", "inf":
		return float32(math.Inf(1)), nil
	case "-Infinity", "-inf":
		return float32(math.Inf(-1)), nil
	}
	if !decimal(w) {
		return 0, fmt.Errorf("%s is not a number", quote(w))
	}
	v, err := strconv.ParseFloat(w, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of float32", quote(w))
	}
	return float32(v), nil
}

// decimal keeps out what strconv also takes: hexadecimal, underscores, "infinity" in any case.
func decimal(w string) bool {
	for i := range len(w) {
		if c := w[i]; (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			return false
		}
	}
	return w != ""
}

func (s *jsonSource) ints() ([]int32, error) {
	var out []int32
	err := s.array(func(int) error {
		w, err := s.word()
		if err != nil {
			return err
		}
		var v int64
		switch string(w) {
		case "true":
			v = 1
		case "false":
		default:
			if v, err = strconv.ParseInt(string(w), 10, 64); err != nil {
				return s.errorf("%s is not an integer", quote(string(w)))
			}
		}
		if v < math.MinInt32 || v > math.MaxUint32 {
			return s.errorf("%d does not fit 32 bits", v)
		}
		out = append(out, int32(uint32(v)))
		return nil
	})
	return out, err
}

func (s *jsonSource) skip() error {
	switch s.peek() {
	case '{':
		return s.object(func(string) error { return s.skip() })
	case '[':
		return s.array(func(int) error { return s.skip() })
	case '"':
		return s.skipString()
	}
	_, err := s.word()
	return err
}

// skipString moves past a string without making one.
func (s *jsonSource) skipString() error {
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch s.data[s.pos] {
		case '"':
			s.pos++
			return nil
		case '\\':
			s.pos++
		}
	}
	s.pos = len(s.data)
	return s.errorf("the file ends inside a string: it is cut short")
}

func (s *jsonSource) end() error {
	if s.peek(); s.pos != len(s.data) {
		return s.errorf("something follows the model")
	}
	return nil
}

func (s *jsonSource) size() int { return len(s.data) }

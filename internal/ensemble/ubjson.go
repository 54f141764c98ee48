package ensemble

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// ubjsonSource reads Universal Binary JSON (draft 12, and the unsigned types newer writers add): XGBoost writes strongly
// typed arrays ([$d#L...), counted arrays ([#L...) and plain objects; the other forms are read as well.
type ubjsonSource struct {
	data  []byte
	pos   int
	depth int // levels that may still be opened
}

func newUBJSON(data []byte, nesting int) *ubjsonSource {
	return &ubjsonSource{data: data, depth: nesting}
}

func (s *ubjsonSource) errorf(format string, args ...any) error {
	return fmt.Errorf("at byte %d: "+format, append([]any{s.pos}, args...)...)
}

// take gives the next n bytes.
func (s *ubjsonSource) take(n int) ([]byte, error) {
	if n > len(s.data)-s.pos {
		return nil, s.errorf("the file ends %d bytes too early: it is cut short", n-(len(s.data)-s.pos))
	}
	b := s.data[s.pos : s.pos+n]
	s.pos += n
	return b, nil
}

// marker gives the next type marker; 'N' means "nothing here" and is passed over.
func (s *ubjsonSource) marker() (byte, error) {
	for {
		b, err := s.take(1)
		if err != nil || b[0] != 'N' {
			return first(b), err
		}
	}
}

func first(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// width is the size in bytes of a number of type t, 0 for what is not a number.
func width(t byte) int {
	switch t {
	case 'i', 'U', 'C', 'B':
		return 1
	case 'I', 'u', 'h':
		return 2
	case 'l', 'm', 'd':
		return 4
	case 'L', 'M', 'D':
		return 8
	}
	return 0
}

// integer decodes the integer b of type t.
func integer(t byte, b []byte) (int64, bool) {
	switch t {
	case 'i':
		return int64(int8(b[0])), true
	case 'U', 'B':
		return int64(b[0]), true
	case 'I':
		return int64(int16(binary.BigEndian.Uint16(b))), true
	case 'u':
		return int64(binary.BigEndian.Uint16(b)), true
	case 'l':
		return int64(int32(binary.BigEndian.Uint32(b))), true
	case 'm':
		return int64(binary.BigEndian.Uint32(b)), true
	case 'L':
		return int64(binary.BigEndian.Uint64(b)), true
	case 'M':
		v := binary.BigEndian.Uint64(b)
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

// number decodes the number b of type t.
func number(t byte, b []byte) (float64, bool) {
	switch t {
	case 'd':
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b))), true
	case 'D':
		return math.Float64frombits(binary.BigEndian.Uint64(b)), true
	}
	v, ok := integer(t, b)
	return float64(v), ok
}

// length reads a length with its own type marker and checks it against what is left, at unit bytes an element.
func (s *ubjsonSource) length(unit int) (int, error) {
	t, err := s.marker()
	if err != nil {
		return 0, err
	}
	b, err := s.take(width(t))
	if err != nil {
		return 0, err
	}
	n, ok := integer(t, b)
	switch {
	case !ok:
		return 0, s.errorf("a length has type %q, which is no integer", t)
	case n < 0:
		return 0, s.errorf("a length is %d", n)
	case n > int64(len(s.data)-s.pos)/int64(unit):
		return 0, s.errorf("a length of %d goes past the end of the file", n)
	}
	return int(n), nil
}

// str consumes a string without its 'S' marker, as keys are written.
func (s *ubjsonSource) str() (string, error) {
	n, err := s.length(1)
	if err != nil {
		return "", err
	}
	b, err := s.take(n)
	return string(b), err
}

// header is what may stand behind an opening bracket.
type header struct {
	kind    byte // type of every element, 0 when each carries its own
	counted bool
	count   int
}

func (s *ubjsonSource) header() (h header, err error) {
	if s.pos < len(s.data) && s.data[s.pos] == '$' {
		s.pos++
		b, err := s.take(1)
		if err != nil {
			return h, err
		}
		h.kind = b[0]
		// Values without bytes could be counted to any number, so they are not taken as elements.
		switch h.kind {
		case '[', '{', 'S', 'H':
		default:
			if width(h.kind) == 0 {
				return h, s.errorf("an array has elements of unknown type %q", h.kind)
			}
		}
		if s.pos == len(s.data) || s.data[s.pos] != '#' {
			return h, s.errorf("a typed array has no count")
		}
	}
	if s.pos < len(s.data) && s.data[s.pos] == '#' {
		s.pos++
		h.counted = true
		if h.count, err = s.length(max(1, width(h.kind))); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (s *ubjsonSource) enter() error {
	if s.depth == 0 {
		return s.errorf("objects and arrays are nested too deeply")
	}
	s.depth--
	return nil
}

// next says whether a container has an element i, and gives that element's type marker.
func (s *ubjsonSource) next(h header, i int, closing byte) (bool, error) {
	if h.counted {
		return i < h.count, nil
	}
	for s.pos < len(s.data) && s.data[s.pos] == 'N' {
		s.pos++
	}
	if s.pos == len(s.data) {
		return false, s.errorf("the file ends inside a list: it is cut short")
	}
	if s.data[s.pos] == closing {
		s.pos++
		return false, nil
	}
	return true, nil
}

// expect consumes the marker of a value that must be of type t.
func (s *ubjsonSource) expect(t byte, what string) error {
	got, err := s.marker()
	if err == nil && got != t {
		err = s.errorf("type %q found where %s should be", got, what)
	}
	return err
}

func (s *ubjsonSource) object(field func(string) error) error {
	if err := s.expect('{', "an object"); err != nil {
		return err
	}
	return s.members(field)
}

// members consumes an object behind its marker.
func (s *ubjsonSource) members(field func(string) error) error {
	h, err := s.header()
	if err != nil {
		return err
	}
	if h.kind != 0 {
		return s.errorf("typed objects are not something XGBoost writes")
	}
	if err := s.enter(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		ok, err := s.next(h, i, '}')
		if err != nil {
			return err
		}
		if !ok {
			s.depth++
			return nil
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
	}
}

func (s *ubjsonSource) array(element func(int) error) error {
	if err := s.expect('[', "an array"); err != nil {
		return err
	}
	h, err := s.header()
	if err != nil {
		return err
	}
	if h.kind != 0 {
		return s.errorf("an array of type %q found where a list of objects or strings should be", h.kind)
	}
	if err := s.enter(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		ok, err := s.next(h, i, ']')
		if err != nil {
			return err
		}
		if !ok {
			s.depth++
			return nil
		}
		if err := element(i); err != nil {
			return err
		}
	}
}

func (s *ubjsonSource) text() (string, error) {
	t, err := s.marker()
	if err != nil {
		return "", err
	}
	switch t {
	case 'S', 'H':
		return s.str()
	case 'T':
		return "true", nil
	case 'F':
		return "false", nil
	}
	if width(t) == 0 {
		return "", s.errorf("type %q found where a string should be", t)
	}
	b, err := s.take(width(t))
	if err != nil {
		return "", err
	}
	if v, ok := integer(t, b); ok {
		return strconv.FormatInt(v, 10), nil
	}
	if v, ok := number(t, b); ok {
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", s.errorf("type %q found where a string should be", t)
}

// numbers calls put for every number of an array, with its type and bytes; size is told their count where the file gives it.
func (s *ubjsonSource) numbers(size func(n int), put func(t byte, b []byte) error) error {
	if err := s.expect('[', "an array of numbers"); err != nil {
		return err
	}
	h, err := s.header()
	if err != nil {
		return err
	}
	if h.counted {
		size(h.count)
	}
	for i := 0; ; i++ {
		ok, err := s.next(h, i, ']')
		if !ok || err != nil {
			return err
		}
		t := h.kind
		if t == 0 {
			if t, err = s.marker(); err != nil {
				return err
			}
		}
		var b []byte
		switch t {
		case 'T', 'F':
		default:
			if width(t) == 0 {
				return s.errorf("type %q found where a number should be", t)
			}
			if b, err = s.take(width(t)); err != nil {
				return err
			}
		}
		if err := put(t, b); err != nil {
			return err
		}
	}
}

func (s *ubjsonSource) floats() (out []float32, err error) {
	err = s.numbers(func(n int) { out = make([]float32, 0, n) }, func(t byte, b []byte) error {
		v, ok := float64(0), false
		if t != 'T' && t != 'F' {
			v, ok = number(t, b)
		}
		if !ok {
			return s.errorf("type %q found where a number should be", t)
		}
		out = append(out, float32(v))
		return nil
	})
	return out, err
}

func (s *ubjsonSource) ints() (out []int32, err error) {
	err = s.numbers(func(n int) { out = make([]int32, 0, n) }, func(t byte, b []byte) error {
		v, ok := int64(0), true
		switch t {
		case 'T':
			v = 1
		case 'F':
		default:
			v, ok = integer(t, b)
		}
		if !ok {
			return s.errorf("type %q found where an integer should be", t)
		}
		if v < math.MinInt32 || v > math.MaxUint32 {
			return s.errorf("%d does not fit 32 bits", v)
		}
		out = append(out, int32(uint32(v)))
		return nil
	})
	return out, err
}

func (s *ubjsonSource) skip() error {
	t, err := s.marker()
	if err != nil {
		return err
	}
	return s.skipValue(t)
}

// skipValue consumes a value of type t behind its marker.
func (s *ubjsonSource) skipValue(t byte) error {
	switch t {
	case 'Z', 'T', 'F':
		return nil
	case 'S', 'H':
		n, err := s.length(1)
		if err != nil {
			return err
		}
		_, err = s.take(n)
		return err
	case '{':
		return s.members(func(string) error { return s.skip() })
	case '[':
		return s.skipArray()
	}
	if width(t) == 0 {
		return s.errorf("unknown type %q", t)
	}
	_, err := s.take(width(t))
	return err
}

func (s *ubjsonSource) skipArray() error {
	h, err := s.header()
	if err != nil {
		return err
	}
	if w := width(h.kind); h.counted && w > 0 {
		_, err := s.take(w * h.count) // the count was checked against what is left
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		ok, err := s.next(h, i, ']')
		if err != nil {
			return err
		}
		if !ok {
			s.depth++
			return nil
		}
		if h.kind != 0 {
			err = s.skipValue(h.kind)
		} else {
			err = s.skip()
		}
		if err != nil {
			return err
		}
	}
}

func (s *ubjsonSource) end() error {
	if s.pos != len(s.data) {
		return s.errorf("something follows the model")
	}
	return nil
}

func (s *ubjsonSource) size() int { return len(s.data) }

package oip

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/picket-ml/picket/engine"
)

// maxDepth is how deep JSON may be nested: deeper than any tensor.
const maxDepth = 32

// scanner reads JSON from front to back without building it in memory: the data of
// a tensor stays text until it is written into the request's own Buffer. NaN,
// Infinity and -Infinity are read as values, as Python writes them.
type scanner struct {
	text []byte
	at   int
}

// wrong says that the text is not the JSON that is wanted.
func (s *scanner) wrong(want string) error {
	if s.at >= len(s.text) {
		return fmt.Errorf("%w: the JSON ends where %s should be", engine.ErrInvalidInput, want)
	}
	return fmt.Errorf("%w: the JSON has %q at byte %d where %s should be", engine.ErrInvalidInput, s.text[s.at:s.at+1], s.at, want)
}

// peek skips blanks and is the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// take skips blanks and then c.
func (s *scanner) take(c byte, want string) error {
	if s.peek() != c {
		return s.wrong(want)
	}
	s.at++
	return nil
}

// end makes sure that nothing follows.
func (s *scanner) end() error {
	if s.peek() != 0 || s.at < len(s.text) {
		return s.wrong("the end")
	}
	return nil
}

// object calls member for each member, with the scanner before its value, which
// member reads.
func (s *scanner) object(member func(key []byte) error) error {
	return s.list('{', '}', "an object", func() error {
		key, err := s.string()
		if err != nil {
			return err
		}
		if err := s.take(':', "a colon"); err != nil {
			return err
		}
		return member(key)
	})
}

// array calls element for each element, with the scanner before it.
func (s *scanner) array(element func() error) error {
	return s.list('[', ']', "an array", element)
}

func (s *scanner) list(open, shut byte, want string, item func() error) error {
	if err := s.take(open, want); err != nil {
		return err
	}
	if s.peek() == shut {
		s.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case shut:
			s.at++
			return nil
		default:
			return s.wrong("a comma or the end of " + want)
		}
	}
}

// string is the text of a JSON string. Without escapes it points into the JSON.
func (s *scanner) string() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.wrong("a string")
	}
	start := s.at
	escaped := false
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			if !escaped {
				return s.text[start+1 : s.at-1], nil
			}
			var text string
			if err := json.Unmarshal(s.text[start:s.at], &text); err != nil {
				return nil, fmt.Errorf("%w: the JSON has a string at byte %d that cannot be read", engine.ErrInvalidInput, start)
			}
			return []byte(text), nil
		case c == '\\':
			escaped = true
			s.at++ // whatever it is, it does not end the string
		case c < ' ':
			return nil, s.wrong("the rest of a string")
		}
	}
	s.at = len(s.text)
	return nil, s.wrong("the end of a string")
}

// number is the text of a JSON number, or of NaN, Infinity and -Infinity.
func (s *scanner) number() ([]byte, error) {
	c := s.peek()
	start := s.at
	if c == 'N' || c == 'I' || c == '-' { // few numbers are looked at more than once
		for _, word := range [...]string{"NaN", "Infinity", "-Infinity"} {
			if s.skipWord(word) {
				return s.text[start:s.at], nil
			}
		}
		s.skipByte('-')
	}
	if !s.skipByte('0') && !s.skipDigits() {
		return nil, s.wrong("a number")
	}
	if s.skipByte('.') && !s.skipDigits() {
		return nil, s.wrong("a digit")
	}
	if s.skipByte('e') || s.skipByte('E') {
		if !s.skipByte('+') {
			s.skipByte('-')
		}
		if !s.skipDigits() {
			return nil, s.wrong("a digit")
		}
	}
	return s.text[start:s.at], nil
}

func (s *scanner) skipByte(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) skipDigits() bool {
	at := s.at
	for at < len(s.text) && s.text[at]-'0' <= 9 {
		at++
	}
	found := at > s.at
	s.at = at
	return found
}

func (s *scanner) skipWord(word string) bool {
	if len(s.text)-s.at < len(word) || string(s.text[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}

var errTooDeep = fmt.Errorf("%w: the JSON is nested more than %d deep", engine.ErrInvalidInput, maxDepth)

// skip passes over a value of any kind and returns its text.
func (s *scanner) skip(depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	c := s.peek()
	start := s.at
	var err error
	switch c {
	case '{':
		err = s.object(func([]byte) error { _, err := s.skip(depth + 1); return err })
	case '[':
		err = s.array(func() error { _, err := s.skip(depth + 1); return err })
	case '"':
		_, err = s.string()
	case 'n', 't', 'f':
		if !s.skipWord("null") && !s.skipWord("true") && !s.skipWord("false") {
			err = s.wrong("a number")
		}
	default:
		_, err = s.number()
	}
	return s.text[start:s.at], err
}

// whole is a whole number of 64 bits.
func (s *scanner) whole() (int64, error) {
	s.peek()
	start := s.at
	text, err := s.number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		s.at = start
		if errors.Is(err, strconv.ErrRange) {
			return 0, s.wrong("a number of at most 64 bits")
		}
		return 0, s.wrong("a whole number")
	}
	return v, nil
}

// parameter is a member of an object of parameters.
func (s *scanner) parameter() (parameter, error) {
	switch c := s.peek(); {
	case c == '"':
		text, err := s.string()
		return parameter{kind: textParameter, text: text}, err
	case s.skipWord("true"):
		return parameter{kind: truthParameter, number: 1}, nil
	case s.skipWord("false"):
		return parameter{kind: truthParameter}, nil
	}
	text, err := s.skip(1)
	if err != nil {
		return parameter{}, err
	}
	if v, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return parameter{kind: wholeParameter, number: v}, nil
	}
	return parameter{}, nil
}

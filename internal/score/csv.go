package score

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/tensor"
)

const (
	chunkBytes = 1 << 20  // of CSV, as a rule
	maxLine    = 16 << 20 // more is no row
)

// csvSource reads CSV: a row a line, commas between fields, of which any may stand in quotes.
type csvSource struct {
	f      *os.File
	size   int64
	at     int64 // where the next chunk starts
	ahead  []byte
	ended  bool
	layout *layout
	role   []int32 // of each column: the feature that it is, skipped, or -2 - the id that it is
	dtype  tensor.DType
}

const skipped = -1

// openCSV reads the first line, to know the columns.
func openCSV(f *os.File, size int64, o *Options, want int, dtype tensor.DType) (*csvSource, error) {
	s := &csvSource{f: f, size: size, dtype: dtype}
	if dtype.Size() == 0 {
		return nil, fmt.Errorf("the model takes %v, which has no form as text", dtype)
	}
	first, before, err := s.firstLine()
	if err != nil {
		return nil, err
	}
	fields, err := splitLine(first)
	if err != nil {
		return nil, badInput("line %d: %v", before+1, err)
	}
	var names []string
	if o.Header == HeaderYes || o.Header == HeaderAuto && isHeader(fields) {
		names = make([]string, len(fields))
		for i, field := range fields {
			names[i] = string(unquote(field))
		}
	}
	if s.layout, err = newLayout(names, len(fields), o.Columns, o.IDs, want); err != nil {
		return nil, err
	}
	s.role = make([]int32, len(fields))
	for c := range s.role {
		s.role[c] = skipped
	}
	for i, c := range s.layout.ids {
		s.role[c] = int32(-2 - i)
	}
	for i, c := range s.layout.features {
		if s.role[c] != skipped {
			return nil, badInput("column %d is named twice", c+1)
		}
		s.role[c] = int32(i)
	}
	return s, nil
}

// firstLine is the first line that is not blank, and how many lines come before it.
func (s *csvSource) firstLine() (line []byte, before int, err error) {
	window := make([]byte, min(s.size, maxLine))
	if _, err := s.f.ReadAt(window, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	rest := bytes.TrimPrefix(window, []byte("\xef\xbb\xbf"))
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(bytes.TrimSpace(line)) > 0 {
			return bytes.TrimSuffix(line, []byte("\r")), before, nil
		}
		before++
	}
	return nil, 0, badInput("it has no rows")
}

// isHeader tells whether no field is a number or empty.
func isHeader(fields [][]byte) bool {
	for _, field := range fields {
		text, missing := rows.Field(field)
		if missing {
			return false
		}
		if _, err := rows.AppendNumber(nil, tensor.FP64, string(text)); err == nil {
			return false
		}
	}
	return true
}

// splitLine cuts a line at its commas, but for those in quotes.
func splitLine(line []byte) ([][]byte, error) {
	var fields [][]byte
	for {
		end, err := fieldEnd(line)
		if err != nil {
			return nil, err
		}
		fields = append(fields, line[:end])
		if end == len(line) {
			return fields, nil
		}
		line = line[end+1:]
	}
}

var errQuote = errors.New("a quoted field does not end on its line")

// fieldEnd is where the first field of the line ends. A field is quoted if its first character is a quote.
func fieldEnd(line []byte) (int, error) {
	from := 0
	for from < len(line) && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	if from < len(line) && line[from] == '"' {
		for from++; ; from += 2 { // two quotes are one
			quote := bytes.IndexByte(line[from:], '"')
			if quote < 0 {
				return 0, errQuote
			}
			if from += quote; from+1 == len(line) || line[from+1] != '"' {
				from++
				break
			}
		}
	}
	if comma := bytes.IndexByte(line[from:], ','); comma >= 0 {
		return from + comma, nil
	}
	return len(line), nil
}

// unquote is the text of a field.
func unquote(field []byte) []byte {
	text := bytes.TrimSpace(field)
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return text
	}
	return bytes.ReplaceAll(text[1:len(text)-1], []byte(`""`), []byte(`"`))
}

// skip goes on behind a position.
func (s *csvSource) skip(p position) error {
	if p.Bytes > s.size {
		return badInput("it is shorter than it was")
	}
	s.at = p.Bytes
	return nil
}

// next gives the next chunk of whole lines: those that end within so many bytes of its start, whatever was read ahead, so that a
// run that goes on cuts the rest as it would have been cut.
func (s *csvSource) next(c *chunk) error {
	c.text = append(c.text[:0], s.ahead...)
	s.ahead = s.ahead[:0]
	for !s.ended {
		from, room := len(c.text), chunkBytes
		if from < chunkBytes {
			room -= from
		}
		c.text = slices.Grow(c.text, room)[:from+room]
		n, err := s.f.ReadAt(c.text[from:], s.at+int64(from))
		c.text = c.text[:from+n]
		if errors.Is(err, io.EOF) {
			s.ended = true
			break
		}
		if err != nil {
			return fmt.Errorf("reading the input: %w", err)
		}
		if last := bytes.LastIndexByte(c.text[from:], '\n'); last >= 0 {
			end := from + last + 1
			s.ahead = append(s.ahead, c.text[end:]...)
			c.text = c.text[:end]
			break
		}
		if len(c.text) > maxLine {
			return badInput("a line is longer than %d MB, which no row is", maxLine>>20)
		}
	}
	if len(c.text) == 0 {
		return io.EOF
	}
	first := s.at == 0
	s.at += int64(len(c.text))
	c.end = s.at
	c.lines, c.rows = 0, 0
	if first {
		s.behead(c)
	}
	return nil
}

// behead takes the mark of Windows' UTF-8 and the header off the first chunk.
func (s *csvSource) behead(c *chunk) {
	c.text = bytes.TrimPrefix(c.text, []byte("\xef\xbb\xbf"))
	for headed := s.layout.names == nil; !headed; c.lines++ {
		line, rest, _ := bytes.Cut(c.text, []byte("\n"))
		headed = len(bytes.TrimSpace(line)) > 0
		c.text = rest
	}
}

func (s *csvSource) columns() *layout { return s.layout }

func (s *csvSource) total() int64 { return s.size }

func (s *csvSource) close() error { return nil }

// kinds of columns that are passed through.
func (s *csvSource) kinds() []idKind {
	kinds := make([]idKind, len(s.layout.ids))
	for i := range kinds {
		kinds[i] = textKind()
	}
	return kinds
}

// decode reads the rows of a chunk. It changes nothing of the source, and is called for many chunks at once.
func (s *csvSource) decode(c *chunk) error {
	c.data = c.data[:0]
	c.ids = c.ids[:len(s.layout.ids)]
	for i := range c.ids {
		c.ids[i] = c.ids[i][:0]
	}
	size := len(s.layout.features) * s.dtype.Size()
	for from := 0; from < len(c.text); {
		end, next := len(c.text), len(c.text)
		if newline := bytes.IndexByte(c.text[from:], '\n'); newline >= 0 {
			end = from + newline
			next = end + 1
		}
		c.lines++
		if end > from && c.text[end-1] == '\r' {
			end--
		}
		if end > from && (c.text[from] > ' ' || len(bytes.TrimSpace(c.text[from:end])) > 0) {
			at := len(c.data)
			c.data = slices.Grow(c.data, size)[:at+size]
			if err := s.row(c, c.data[at:], from, end); err != nil {
				return &lineError{c.lines, err}
			}
			c.rows++
		}
		from = next
	}
	return nil
}

// row reads the line from from to end into dst.
func (s *csvSource) row(c *chunk, dst []byte, from, end int) error {
	line := c.text[:end]
	single := s.dtype == tensor.FP32
	for column := range s.role {
		if from > end {
			return s.wrongCount(column)
		}
		feature := s.role[column]
		if feature >= 0 && single {
			if v, n := decimal(line[from:]); n > 0 && (from+n == end || line[from+n] == ',') {
				if f, ok := narrow(v); ok {
					binary.LittleEndian.PutUint32(dst[4*feature:], math.Float32bits(f))
					from += n + 1
					continue
				}
			}
		}
		length, err := fieldEnd(line[from:])
		if err != nil {
			return err
		}
		switch {
		case feature >= 0:
			if err := s.number(dst, int(feature), line[from:from+length]); err != nil {
				return s.place(column, err)
			}
		case feature != skipped:
			c.ids[-2-feature] = append(c.ids[-2-feature], span{from, from + length})
		}
		from += length + 1
	}
	if from <= end {
		more := bytes.Count(line[from:], []byte(",")) + 1
		return s.wrongCount(len(s.role) + more)
	}
	return nil
}

// number reads a field as rows does everywhere.
func (s *csvSource) number(dst []byte, feature int, field []byte) error {
	size := s.dtype.Size()
	text, missing := rows.Field(field)
	var err error
	into := dst[feature*size : feature*size : (feature+1)*size]
	if missing {
		_, err = rows.AppendMissing(into, s.dtype)
	} else {
		_, err = rows.AppendNumber(into, s.dtype, string(text))
	}
	if err == nil {
		return nil
	}
	const most = 40
	switch {
	case len(text) == 0:
		return fmt.Errorf("an empty value %w", err)
	case len(text) > most:
		return fmt.Errorf("%q... %w", text[:most], err)
	}
	return fmt.Errorf("%q %w", text, err)
}

// place names the column of a number.
func (s *csvSource) place(column int, err error) error {
	if s.layout.names != nil {
		return fmt.Errorf("column %q: %w", s.layout.names[column], err)
	}
	return fmt.Errorf("column %d: %w", column+1, err)
}

func (s *csvSource) wrongCount(have int) error {
	return fmt.Errorf("it has %d fields, and the first line %d", have, len(s.role))
}

package monitor

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// ParquetRows reads a table of plain columns of a Parquet file.
type ParquetRows struct {
	columns []string
	rows    parquet.Rows
	groups  []parquet.RowGroup
	buffer  []parquet.Row
	read    []parquet.Row // of the buffer, not given out yet
	row     []Value
	ended   bool
}

// NewParquet reads a Parquet file of so many bytes. Columns that are lists, maps or
// repeated are refused: a baseline is of single values. The caller closes what it
// returns.
func NewParquet(r io.ReaderAt, size int64) (_ *ParquetRows, err error) {
	defer caught(&err)
	f, err := parquet.OpenFile(r, size)
	if err != nil {
		return nil, err
	}
	p := &ParquetRows{groups: f.RowGroups(), buffer: make([]parquet.Row, 256)}
	schema := f.Schema()
	for _, path := range schema.Columns() {
		name := strings.Join(path, ".")
		leaf, ok := schema.Lookup(path...)
		if !ok || leaf.MaxRepetitionLevel > 0 {
			return nil, fmt.Errorf("the column %s is a list; write one column for each of its values", name)
		}
		p.columns = append(p.columns, name)
	}
	if err := checkNames(p.columns); err != nil {
		return nil, err
	}
	p.row = make([]Value, len(p.columns))
	return p, nil
}

// caught makes an error of a panic in the library, to which a damaged file may lead.
func caught(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("the file is damaged: %v", cause)
	}
}

// Columns implements Rows.
func (p *ParquetRows) Columns() []string { return p.columns }

// Next implements Rows.
func (p *ParquetRows) Next() (_ []Value, err error) {
	defer caught(&err)
	for len(p.read) == 0 {
		if p.rows == nil {
			if len(p.groups) == 0 {
				return nil, io.EOF
			}
			p.rows, p.groups, p.ended = p.groups[0].Rows(), p.groups[1:], false
		}
		if p.ended {
			if err := p.Close(); err != nil {
				return nil, err
			}
			continue
		}
		n, err := p.rows.ReadRows(p.buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		p.ended, p.read = err != nil, p.buffer[:n]
	}
	clear(p.row)
	for _, v := range p.read[0] {
		if i := v.Column(); i >= 0 && i < len(p.row) {
			p.row[i] = parquetValue(v)
		}
	}
	p.read = p.read[1:]
	return p.row, nil
}

// Close implements io.Closer.
func (p *ParquetRows) Close() error {
	if p.rows == nil {
		return nil
	}
	rows := p.rows
	p.rows = nil
	return rows.Close()
}

func parquetValue(v parquet.Value) Value {
	if v.IsNull() {
		return Value{Kind: Missing}
	}
	switch v.Kind() {
	case parquet.Boolean:
		if v.Boolean() {
			return NumberValue(1)
		}
		return NumberValue(0)
	case parquet.Int32:
		return NumberValue(float64(v.Int32()))
	case parquet.Int64:
		return NumberValue(float64(v.Int64()))
	case parquet.Float:
		return NumberValue(float64(v.Float()))
	case parquet.Double:
		return NumberValue(v.Double())
	}
	return TextValue(string(v.ByteArray()))
}

// capturedRows reads a table of captured data, in which a feature's column is called
// "in." and a name, and a score's "out." and a name. They are the baseline's features
// and scores in its order, or by their names if those are the baseline's.
type capturedRows struct {
	rows    Rows
	columns []string
	to      []int // of each column of the table; -1 for none
	row     []Value
}

const (
	inPrefix  = "in."
	outPrefix = "out."
)

// isCaptured tells whether a table is one of captured data.
func isCaptured(columns []string) bool {
	return slices.Contains(columns, "event_id") && slices.ContainsFunc(columns, func(name string) bool {
		return strings.HasPrefix(name, inPrefix) || strings.HasPrefix(name, outPrefix)
	})
}

func newCaptured(rows Rows, baseline *Statistics) *capturedRows {
	c := &capturedRows{rows: rows}
	var inputs, scores []int
	for i := range baseline.Features {
		name := baseline.Features[i].Name
		c.columns = append(c.columns, name)
		if IsScore(name) {
			scores = append(scores, i)
		} else {
			inputs = append(inputs, i)
		}
	}
	in, out := 0, 0
	for _, column := range rows.Columns() {
		place := -1
		if name, ok := strings.CutPrefix(column, inPrefix); ok {
			if place = slices.Index(c.columns, name); place < 0 && in < len(inputs) {
				place = inputs[in]
			}
			if in++; place < 0 {
				place = len(c.columns)
				c.columns = append(c.columns, name)
			}
		} else if strings.HasPrefix(column, outPrefix) {
			if out < len(scores) {
				place = scores[out]
			}
			out++
		}
		c.to = append(c.to, place)
	}
	c.row = make([]Value, len(c.columns))
	return c
}

// Columns implements Rows.
func (c *capturedRows) Columns() []string { return c.columns }

// Next implements Rows.
func (c *capturedRows) Next() ([]Value, error) {
	row, err := c.rows.Next()
	if err != nil {
		return nil, err
	}
	clear(c.row)
	for i, v := range row {
		if place := c.to[i]; place >= 0 {
			c.row[place] = v
		}
	}
	return c.row, nil
}

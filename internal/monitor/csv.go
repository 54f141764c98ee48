package monitor

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// csvRows reads a table of text.
type csvRows struct {
	reader  *csv.Reader
	columns []string
	row     []Value
	first   []string // a row that was read to count the columns
}

// NewCSV reads CSV as spreadsheets and RFC 4180 have it. Without a header, columns
// are called _c0, _c1 and so on, as Model Monitor has it.
func NewCSV(r io.Reader, header bool) (Rows, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	first, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	}
	if err != nil {
		return nil, err
	}
	rows := &csvRows{reader: c, columns: slices.Clone(first)}
	if !header {
		rows.first = slices.Clone(first)
		for i := range rows.columns {
			rows.columns[i] = "_c" + strconv.Itoa(i)
		}
	}
	if err := checkNames(rows.columns); err != nil {
		return nil, fmt.Errorf("the first line: %w", err)
	}
	rows.row = make([]Value, len(rows.columns))
	return rows, nil
}

// Columns implements Rows.
func (c *csvRows) Columns() []string { return c.columns }

// Next implements Rows.
func (c *csvRows) Next() ([]Value, error) {
	fields := c.first
	if c.first = nil; fields == nil {
		var err error
		if fields, err = c.reader.Read(); err != nil {
			return nil, err // a ParseError says the line
		}
	}
	for i, field := range fields {
		c.row[i] = TextValue(field)
	}
	return c.row, nil
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/picket-ml/picket/internal/rows"
)

// answerWriter prints outputs, a line per row.
type answerWriter struct {
	w      io.Writer
	asJSON bool
	line   []byte // reused
}

// write prints the answer to n rows.
func (a *answerWriter) write(outputs []answer, n int) error {
	if len(outputs) == 0 {
		return errors.New("the daemon's answer has no outputs; look at its log")
	}
	for _, t := range outputs {
		size := len(t.data)
		if width := t.dtype.Size(); width == 0 || size%(n*width) != 0 {
			return fmt.Errorf("the daemon answered %d bytes for output %q, which are not those of %d rows; look at its log", size, t.name, n)
		}
	}
	for row := range n {
		if err := a.compose(outputs, row, n); err != nil {
			return err
		}
		if _, err := a.w.Write(a.line); err != nil {
			return fmt.Errorf("writing the answers: %w", err)
		}
	}
	return nil
}

// compose makes the line of one row of n.
func (a *answerWriter) compose(outputs []answer, row, n int) error {
	a.line = a.line[:0]
	if a.asJSON {
		a.line = append(a.line, `{"outputs":{`...)
	}
	style := rows.Text
	for i, t := range outputs {
		if a.asJSON {
			style = rows.JSON
			name, err := json.Marshal(t.name)
			if err != nil {
				return fmt.Errorf("writing the name of output %q: %w", t.name, err)
			}
			if i > 0 {
				a.line = append(a.line, ',')
			}
			a.line = append(append(a.line, name...), ':', '[')
		} else if i > 0 {
			a.line = append(a.line, '\t')
		}
		size := len(t.data) / n
		var err error
		if a.line, err = rows.Append(a.line, t.data[row*size:(row+1)*size], t.dtype, style); err != nil {
			return fmt.Errorf("writing output %q: %w", t.name, err)
		}
		if a.asJSON {
			a.line = append(a.line, ']')
		}
	}
	if a.asJSON {
		a.line = append(a.line, '}', '}')
	}
	a.line = append(a.line, '\n')
	return nil
}

package score

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// position is how far the input was read.
type position struct {
	// Bytes is an offset in CSV, behind a line's end.
	Bytes int64 `json:"bytes"`
	Lines int64 `json:"lines"`
	Rows  int64 `json:"rows"`
}

// chunk is rows on their way, and the memory for them, which is used again.
type chunk struct {
	text    []byte                // of CSV: whole lines
	end     int64                 // behind it, in the input
	columns [][]byte              // of Parquet
	loaded  chan struct{}         // one token for each reader that has filled its columns
	waits   int                   // for so many
	failed  atomic.Pointer[error] // of a reader

	lines int      // of CSV
	rows  int      // that were found in it
	data  []byte   // the numbers of the rows, as the model takes them
	ids   [][]span // of each column to pass through, of each row
	bytes []byte   // what the spans of Parquet lie in; those of CSV lie in text

	out    []byte        // its part of the output
	err    error         // in place of a part
	ended  chan struct{} // one token when a worker is done with it
	scored [][]byte      // of each output, as the model gives it
}

// span is where a value lies; from is -1 for a missing one.
type span struct{ from, to int }

// lineError is a line of the input that cannot be used, counted from the start of its chunk.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// ErrInput is what the error wraps of an input that cannot be read: trying again does not help.
var ErrInput = errors.New("the input cannot be used")

// inputError is a sentence about the input, which ErrInput is not a part of.
type inputError struct{ text string }

func (e *inputError) Error() string        { return e.text }
func (e *inputError) Is(target error) bool { return target == ErrInput }

func badInput(format string, values ...any) error {
	return &inputError{fmt.Sprintf(format, values...)}
}

// layout says which columns of the input are what.
type layout struct {
	names    []string // of the columns; nil where CSV has no header
	count    int      // of the columns
	features []int    // the columns that the model takes, in its order
	ids      []int    // the columns that are passed through
}

// idNames are what the columns that are passed through are called in the output.
func (l *layout) idNames() []string {
	names := make([]string, len(l.ids))
	for i, c := range l.ids {
		if l.names != nil {
			names[i] = l.names[c]
		} else {
			names[i] = fmt.Sprintf("column%d", c+1)
		}
	}
	return names
}

// newLayout finds the columns that were named. Without features they are all that are not passed through.
func newLayout(names []string, count int, features, ids []string, want int) (*layout, error) {
	l := &layout{names: names, count: count}
	var err error
	if l.ids, err = l.find(ids); err != nil {
		return nil, err
	}
	if len(features) > 0 {
		l.features, err = l.find(features)
	} else {
		for c := range count {
			if !slices.Contains(l.ids, c) {
				l.features = append(l.features, c)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if len(l.features) == want {
		return l, nil
	}
	if len(features) > 0 {
		return nil, badInput("%d columns are named and the model takes %d", len(l.features), want)
	}
	if len(ids) > 0 {
		return nil, badInput("%d of its %d columns are passed through, which leaves %d, and the model takes %d: name those that it takes with --columns", len(l.ids), count, len(l.features), want)
	}
	return nil, badInput("it has %d columns and the model takes %d: name those that it takes with --columns, or those that it does not with --id", count, want)
}

// find gives the columns by their names, or by their numbers from 1, as 3 or 3-32.
func (l *layout) find(wanted []string) ([]int, error) {
	var found []int
	for _, name := range wanted {
		if c := slices.Index(l.names, name); c >= 0 {
			if slices.Contains(l.names[c+1:], name) {
				return nil, badInput("two of its columns are called %q: name them by their numbers", name)
			}
			found = append(found, c)
			continue
		}
		from, to, ok := numbers(name)
		switch {
		case !ok && l.names == nil:
			return nil, badInput("%q names no column, because it has no header; give numbers of columns from 1, such as 2 or 3-32", name)
		case !ok:
			return nil, badInput("it has no column %q", name)
		case to > l.count:
			return nil, badInput("there is no column %d; it has %d", to, l.count)
		}
		for c := from; c <= to; c++ {
			found = append(found, c-1)
		}
	}
	return found, nil
}

// numbers reads 3 or 3-32.
func numbers(text string) (from, to int, ok bool) {
	if n, err := fmt.Sscanf(text, "%d-%d", &from, &to); err == nil && n == 2 && fmt.Sprintf("%d-%d", from, to) == text {
		return from, to, from >= 1 && from <= to
	}
	if n, err := fmt.Sscanf(text, "%d", &from); err == nil && n == 1 && fmt.Sprint(from) == text {
		return from, from, from >= 1
	}
	return 0, 0, false
}

package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Rows is a table that is read row by row.
type Rows interface {
	// Columns are the names. There may be more after a row that had more values.
	Columns() []string
	// Next gives the values of the next row, in the order of Columns, which are valid
	// until the next call; io.EOF after the last. A row may be shorter than Columns:
	// what it lacks is Absent.
	Next() ([]Value, error)
}

// BaselineOptions say what of a training set the baseline is of.
type BaselineOptions struct {
	// Drop are columns to leave out, such as the label.
	Drop []string
	// Score is the column with the model's answers; the baseline calls it ScoreName.
	// Empty: a column that has that name already, if there is one.
	Score string
}

// ScoreName is what the model's answer is called in a baseline. Of a model with
// several, ScoreName and a number from 0.
const ScoreName = "score"

// checkEvery is after how many rows it is asked whether to go on.
const checkEvery = 4096

// Baseline reads a training set to its end.
func Baseline(ctx context.Context, rows Rows, o BaselineOptions) (*Statistics, *Constraints, error) {
	s, c, err := baseline(ctx, rows, o)
	if err != nil {
		return nil, nil, fmt.Errorf("computing the baseline: %w", err)
	}
	return s, c, nil
}

func baseline(ctx context.Context, rows Rows, o BaselineOptions) (*Statistics, *Constraints, error) {
	names, err := o.names(rows.Columns())
	if err != nil {
		return nil, nil, err
	}
	columns := make([]*column, len(names))
	for i := range columns {
		columns[i] = newColumn()
	}
	count, err := each(ctx, rows, func(row []Value) error {
		if len(row) != len(names) {
			return fmt.Errorf("it has %d values, there are %d columns", len(row), len(names))
		}
		for i, v := range row {
			if names[i] != "" {
				columns[i].add(v)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if count == 0 {
		return nil, nil, errors.New("the data set has no rows")
	}
	s := &Statistics{Dataset: Dataset{float64(count)}}
	c := &Constraints{Config: defaultConfig()}
	for i, name := range names {
		if name != "" {
			s.Features = append(s.Features, columns[i].feature(name))
			c.Features = append(c.Features, columns[i].constraint(name))
		}
	}
	return s, c, nil
}

// defaultConfig is what Model Monitor suggests.
func defaultConfig() MonitoringConfig {
	return MonitoringConfig{
		EvaluateConstraints: enabled, EmitMetrics: enabled, DatatypeThreshold: 1, DomainThreshold: 1,
		Distribution: DistributionConstraints{
			PerformComparison: enabled, Threshold: 0.1, Method: robust, CategoricalThreshold: 0.1, CategoricalMethod: linfinity,
		},
	}
}

// names are what the columns are called in the baseline, empty for those that are
// left out.
func (o BaselineOptions) names(columns []string) ([]string, error) {
	if err := checkNames(columns); err != nil {
		return nil, err
	}
	names := slices.Clone(columns)
	for _, drop := range o.Drop {
		i := slices.Index(columns, drop)
		if i < 0 {
			return nil, fmt.Errorf("there is no column %q to leave out; the columns are %s", drop, listed(columns))
		}
		names[i] = ""
	}
	if o.Score == "" || o.Score == ScoreName && slices.Contains(names, ScoreName) {
		return names, nil
	}
	i := slices.Index(names, o.Score)
	switch {
	case i < 0:
		return nil, fmt.Errorf("there is no column %q to take the scores from; the columns are %s", o.Score, listed(columns))
	case slices.Contains(names, ScoreName):
		return nil, fmt.Errorf("the scores are said to be in the column %q, but there is one that is called %q: leave it out, or take it", o.Score, ScoreName)
	}
	names[i] = ScoreName
	return names, nil
}

// listed names the first of many.
func listed(names []string) string {
	const few = 8
	if len(names) <= few {
		return fmt.Sprintf("%q", names)
	}
	return fmt.Sprintf("%q and %d more", names[:few], len(names)-few)
}

// each gives all rows to do, and how many there were.
func each(ctx context.Context, rows Rows, do func([]Value) error) (uint64, error) {
	for count := uint64(0); ; count++ {
		if count%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
		}
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err == nil {
			err = do(row)
		}
		if err != nil {
			return 0, fmt.Errorf("row %d: %w", count+1, err)
		}
		if count == math.MaxInt64 {
			return 0, errors.New("the data set does not end")
		}
	}
}

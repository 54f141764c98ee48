//go:build cgo && linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/peers"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/testkit"
)

// kinds are the two kinds of rows, in the order of peers.Rows.
var kinds = [...]struct {
	name, word string
	missing    bool
}{{"5% missing", "missing", true}, {"none missing", "complete", false}}

// benchmark is one run.
type benchmark struct {
	options options
	rows    []int
	cores   []int
	out     *report.Report
	results []report.Kernel
	left    []report.LeftOut
	notes   map[string]string
}

func (b *benchmark) warn(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "bench-forest: "+format+"\n", values...)
}

// model measures one model.
func (b *benchmark) model(ctx context.Context, m models.Spec) (err error) {
	if _, err := m.Train(ctx); err != nil {
		return err
	}
	rows, err := peers.NewRows(m, slices.Concat(testkit.RowsNoZeros(testRows, m.Features), testkit.RowsNoMissing(testRows, m.Features)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for _, threads := range b.cores {
		if err := b.threads(ctx, m, rows, threads); err != nil {
			return err
		}
	}
	return nil
}

// threads measures a model on so many cores.
func (b *benchmark) threads(ctx context.Context, m models.Spec, rows *peers.Rows, threads int) (err error) {
	subjects, err := b.open(ctx, m, rows, threads)
	defer func() {
		for _, s := range subjects {
			if s != nil {
				err = errors.Join(err, s.Close())
			}
		}
	}()
	if err != nil {
		return err
	}
	same, err := b.agreeing(m, subjects, threads)
	if err != nil {
		return err
	}
	for kind := range kinds {
		if !chosen(b.options.values, kinds[kind].word) {
			continue
		}
		for _, s := range same {
			s.perRow = 0
		}
		for _, n := range b.rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := b.cell(m, same, kind, n, threads); err != nil {
				return err
			}
		}
	}
	return nil
}

// cell measures all subjects with one kind of rows, so many at a time.
func (b *benchmark) cell(m models.Spec, subjects []*subject, kind, n, threads int) error {
	plan := b.plan(n)
	for _, c := range interleave.Conditions() {
		if !chosen(b.options.conditions, c.Name) {
			continue
		}
		var failed error
		var turn []interleave.Subject
		var taking []*subject
		for _, s := range subjects {
			if c.Name == "shuffled" && s.HotOnly {
				continue
			}
			if took := s.perRow * time.Duration(n); took > b.options.limit {
				if c.Name == "hot" && kinds[kind].missing {
					b.leave(m, s.name, threads, n, fmt.Sprintf("a call would take %.1f s; fewer rows cost as much per row", took.Seconds()))
				}
				continue
			}
			turn, taking = append(turn, s.timed(kind*testRows, &failed)), append(taking, s)
		}
		for i, d := range c.Measure(turn, plan) {
			taking[i].perRow = d / time.Duration(n)
			b.results = append(b.results, report.Kernel{
				Model: m.Name, Values: kinds[kind].name, Engine: taking[i].name, Condition: c.Name,
				Rows: n, Cores: threads, USPerRow: float64(d.Nanoseconds()) / 1e3 / float64(n),
			})
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// plan is how calls with n rows are measured. Large calls are measured few times, and what is slow fewer times than the rest.
func (b *benchmark) plan(n int) interleave.Plan {
	p := interleave.Plan{TestRows: testRows, Rows: n, Rounds: 9, Turn: 4 * time.Millisecond, Calls: 500, Least: 5, Budget: 60 * time.Millisecond, Seed: 1}
	switch {
	case n > 10_000:
		p.Rounds, p.Turn, p.Calls, p.Least, p.Budget = 5, 15*time.Millisecond, 9, 1, 100*time.Millisecond
	case n > 100:
		p.Calls, p.Least = 200, 3
	}
	if b.options.quick {
		p.Rounds, p.Calls, p.Budget = max(3, p.Rounds/3), max(3, p.Calls/3), p.Budget/3
	}
	return p
}

// timed makes a subject of s that takes rows from first on and notes the first error.
func (s *subject) timed(first int, failed *error) interleave.Subject {
	fail := func(err error) {
		if err != nil && *failed == nil {
			*failed = fmt.Errorf("%s: %w", s.name, err)
		}
	}
	t := interleave.Subject{Name: s.name, Run: func(from, rows int) time.Duration {
		took, err := s.Run(first+from, rows)
		fail(err)
		return took
	}}
	if s.Turn != nil {
		t.Turn = func(rows int, turn time.Duration, least int) []time.Duration {
			times, err := s.Turn(first, rows, turn, least)
			fail(err)
			if len(times) == 0 {
				times = []time.Duration{0}
			}
			return times
		}
	}
	return t
}

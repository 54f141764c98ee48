//go:build cgo && linux

package main

import (
	"fmt"
	"math"

	"github.com/picket-ml/picket/bench/models"
)

// compared is how many rows of each kind answers are compared on.
const compared = 10_000

// agreeing gives the subjects that answer as the first does: backends/forest with other kernels the same bits, peers within
// their tolerance. A peer that answers otherwise is left out and closed.
func (b *benchmark) agreeing(m models.Spec, subjects []*subject, threads int) ([]*subject, error) {
	var same []*subject
	for i, s := range subjects {
		for kind := range kinds {
			if s.peer != nil && s.peer.Complete && kinds[kind].missing {
				continue
			}
			want, err := subjects[0].Answers(kind*testRows, compared)
			if err != nil {
				return nil, err
			}
			got, err := s.Answers(kind*testRows, compared)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			tolerance, strays := 0.0, 0
			if s.peer != nil {
				tolerance, strays = s.peer.Tolerance, s.peer.Strays
			}
			far, worst := distance(want, got, m.Outputs(), tolerance)
			if far <= strays {
				if far > 0 {
					b.notes[s.name+", "+m.Name] = fmt.Sprintf("%d of %d rows (%s) differ by more than %g, at most %.2g: %s", far, compared, kinds[kind].name, tolerance, worst, s.peer.Why)
				}
				continue
			}
			text := fmt.Sprintf("answers %d of %d rows (%s) otherwise by more than %g, at most %.2g", far, compared, kinds[kind].name, tolerance, worst)
			if s.peer == nil {
				return nil, fmt.Errorf("%s %s than %s", s.name, text, subjects[0].name)
			}
			b.leave(m, s.name, threads, 0, text)
			b.warn("%s: %s is wrong and is not timed: it %s", m.Name, s.name, text)
			subjects[i] = nil
			if err := s.Close(); err != nil {
				return nil, err
			}
			break
		}
		if subjects[i] != nil {
			same = append(same, s)
		}
	}
	return same, nil
}

// distance counts the rows in which a value is farther than tolerance from the one wanted, and gives the largest difference.
func distance(want, got []float32, outputs int, tolerance float64) (far int, worst float64) {
	for row := 0; row < len(want); row += outputs {
		most := 0.0
		for i := row; i < row+outputs; i++ {
			d := math.Abs(float64(want[i]) - float64(got[i]))
			if math.IsNaN(d) {
				d = math.Inf(1)
			}
			most = max(most, d)
		}
		if most > tolerance {
			far++
		}
		worst = max(worst, most)
	}
	return far, worst
}

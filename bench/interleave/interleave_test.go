package interleave

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := 100; i > 0; i-- {
		d = append(d, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := Quantile(d, q); got != want {
			t.Errorf("quantile %v of 1 to 100 is %d, want %d", q, got, want)
		}
	}
}

// Both conditions stay within the test rows, give every subject as many turns, and believe a subject that times itself.
func TestConditions(t *testing.T) {
	plan := Plan{TestRows: 10, Rows: 4, Rounds: 3, Turn: time.Microsecond, Calls: 50, Seed: 1}
	for name, measure := range map[string]func([]Subject, Plan) []time.Duration{"hot": Hot, "shuffled": Shuffled} {
		var calls [3]int
		var subjects []Subject
		for i := range calls {
			subjects = append(subjects, Subject{Run: func(from, rows int) time.Duration {
				calls[i]++
				if from < 0 || rows != plan.Rows || from+rows > plan.TestRows {
					t.Errorf("%s: rows %d to %d of %d", name, from, from+rows, plan.TestRows)
				}
				return time.Duration(i+1) * time.Hour
			}})
		}
		for i, d := range measure(subjects, plan) {
			if want := time.Duration(i+1) * time.Hour; d != want {
				t.Errorf("%s: subject %d took %v, want %v", name, i, d, want)
			}
		}
		for i, n := range calls {
			if name == "shuffled" && n != plan.Calls || n < 5*plan.Rounds {
				t.Errorf("%s: subject %d was called %d times", name, i, n)
			}
		}
	}
}

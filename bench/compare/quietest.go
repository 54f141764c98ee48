package compare

import (
	"math"

	"github.com/picket-ml/picket/bench/report"
)

// Quietest is what a model called in this process by one caller came to in each result's quietest repetition: the lowest of the medians of
// latency, those that are left out included. What others do to a machine makes such a call longer and never shorter, so the lowest is
// decided by the processor and the code nearly alone, and tells of two runs on a busy host what their medians cannot. It says nothing of
// what a caller sees, and decides nothing here.
type Quietest struct {
	Key    string  `json:"key"`
	A      float64 `json:"first_ns"`
	B      float64 `json:"second_ns"`
	Change float64 `json:"change"`
}

// quietest compares a run, where it is one of such calls.
func quietest(a, b *report.Run, kinds map[string]report.Kind) (Quietest, bool) {
	if kinds[a.Target] != report.KindInProcess || a.Parameters.Outstanding != 1 || a.Parameters.Arrivals != "closed" {
		return Quietest{}, false
	}
	q := Quietest{Key: a.Key(), A: lowest(a), B: lowest(b)}
	if math.IsInf(q.A, 0) || math.IsInf(q.B, 0) {
		return Quietest{}, false
	}
	q.Change = q.B/q.A - 1
	return q, true
}

// lowest is the lowest median of a run's repetitions; infinite where none has one.
func lowest(r *report.Run) float64 {
	found := math.Inf(1)
	for i := range r.Repetitions {
		h := r.Repetitions[i].Latency
		if h == nil || h.TotalCount() == 0 {
			continue
		}
		if at := h.Quantile(0.5); at > 0 {
			found = min(found, float64(at))
		}
	}
	return found
}

package application

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/scoring"
)

// seconds is over how many seconds statistics go that are of now.
const seconds = 10

// longest is the longest time that is told apart, in microseconds.
const longest = 60_000_000

// statistics counts. Any number of goroutines may use it.
type statistics struct {
	mu               sync.Mutex
	latency, scoring *hdrhistogram.WindowedHistogram
	count            [seconds]uint64 // answers of each of the last seconds
	took, scored     [seconds]time.Duration
	now              int // which of them is this one
	began            time.Time
	full             int // how many of them have gone by, at most all
	histogram        [20]uint64
	transactions     uint64
	verdicts         map[api.Verdict]uint64
	storing          api.Quantiles
}

func newStatistics() *statistics {
	return &statistics{
		latency: hdrhistogram.NewWindowed(seconds, 1, longest, 2), scoring: hdrhistogram.NewWindowed(seconds, 1, longest, 2), began: time.Now(),
		verdicts: map[api.Verdict]uint64{api.Approve: 0, api.Challenge: 0, api.Deny: 0},
	}
}

// answered counts an answer and how long it took, of which scoring took a part, unless no score was asked for.
func (s *statistics) answered(took time.Duration, d *api.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Within the range, so that there is no error.
	_ = s.latency.Current.RecordValue(min(max(1, took.Microseconds()), longest))
	s.count[s.now]++
	if d.Cause == scoring.Open || d.Cause == scoring.Busy {
		return
	}
	_ = s.scoring.Current.RecordValue(min(max(1, d.ScoreMicroseconds), longest))
	s.took[s.now] += took
	s.scored[s.now] += time.Duration(d.ScoreMicroseconds) * time.Microsecond
}

// decided counts a new decision.
func (s *statistics) decided(d *api.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transactions++
	s.verdicts[d.Verdict]++
	if d.Score != nil {
		s.histogram[min(int(*d.Score*20), 19)]++
	}
}

// rotate begins another second.
func (s *statistics) rotate(storing api.Quantiles) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency.Rotate()
	s.scoring.Rotate()
	s.now = (s.now + 1) % seconds
	s.count[s.now], s.took[s.now], s.scored[s.now] = 0, 0, 0
	s.full = min(s.full+1, seconds-1)
	s.storing = storing
}

func quantiles(h *hdrhistogram.Histogram) api.Quantiles {
	return api.Quantiles{P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
}

// statistics are those of now.
func (s *Server) statistics() api.Statistics {
	waiting, limit := s.o.Store.Waiting()
	byCause, _ := s.guard.Counts()
	a := api.Statistics{
		Time: time.Now().UTC(), ByRules: byCause, Unexplained: s.guard.Unexplained(), Breaker: s.guard.Breaker(), Queue: waiting, QueueLimit: limit, Database: s.o.Store.Name(), Scorer: s.o.Scorer.Name(),
		Verdicts: map[api.Verdict]uint64{},
	}
	t := s.stats
	t.mu.Lock()
	defer t.mu.Unlock()
	var took, scored time.Duration
	for i := range seconds {
		took, scored = took+t.took[i], scored+t.scored[i]
		if i != t.now { // the present second is not over
			a.PerSecond += float64(t.count[i])
		}
	}
	a.PerSecond /= float64(max(1, t.full))
	if took > 0 {
		a.Share = float64(scored) / float64(took)
	}
	a.Latency, a.Scoring, a.Storing = quantiles(t.latency.Merge()), quantiles(t.scoring.Merge()), t.storing
	a.Histogram, a.Transactions = t.histogram, t.transactions
	for v, n := range t.verdicts {
		a.Verdicts[v] = n
	}
	return a
}

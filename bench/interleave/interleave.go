// Package interleave measures several engines in one run, so that what else the
// machine does meanwhile hits all of them alike.
//
// What comes out is the time of a call that nobody waits in line for: one caller
// makes the next call when the last has returned (a closed loop), and medians
// leave out what happens rarely. So these are costs to compare, not latencies
// to promise under a load. The cost of reading the clock, which is a tenth of
// the fastest calls and would pull every ratio towards 1, is measured and taken
// off.
package interleave

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Subject is one engine with one model.
type Subject struct {
	Name string
	// Run predicts rows rows starting at row from of the test rows, and returns
	// how long that took if it can tell better than its caller, else 0.
	Run func(from, rows int) time.Duration
}

// Plan is how to measure.
type Plan struct {
	TestRows int           // how many different rows there are
	Rows     int           // per call
	Rounds   int           // how often every subject has its turn
	Turn     time.Duration // how long a turn of the hot condition takes
	Calls    int           // calls of the shuffled condition, per subject
	Seed     uint64
}

// Condition is one way to take turns.
type Condition struct {
	Name    string
	Measure func([]Subject, Plan) []time.Duration
}

// Conditions are the two that every benchmark reports: see Hot and Shuffled.
func Conditions() []Condition { return []Condition{{"hot", Hot}, {"shuffled", Shuffled}} }

// Hot is the median time of one call of each subject when it has the machine
// to itself for a while: in every round each subject, in random order, is called
// again and again on consecutive rows, and the round's median counts.
func Hot(subjects []Subject, p Plan) []time.Duration {
	random := rand.New(rand.NewPCG(p.Seed, 1))
	clock := clockCost()
	medians := make([][]time.Duration, len(subjects))
	var calls []time.Duration // of one turn; kept, so that growing it is over after the first
	for range p.Rounds {
		for _, i := range random.Perm(len(subjects)) {
			from := 0
			calls = calls[:0]
			for start := time.Now(); time.Since(start) < p.Turn || len(calls) < 5; {
				if from+p.Rows > p.TestRows {
					from = 0
				}
				calls = append(calls, timed(subjects[i], from, p.Rows, clock))
				from += p.Rows
			}
			// The first calls pay for what the previous subject left behind.
			medians[i] = append(medians[i], Median(calls[len(calls)/5:]))
		}
	}
	return overall(medians)
}

// Shuffled is the median time of one call of each subject when the subjects
// take turns call by call in random order, each on rows of its own choice: as in
// a process that does other things between predictions.
func Shuffled(subjects []Subject, p Plan) []time.Duration {
	random := rand.New(rand.NewPCG(p.Seed, 2))
	clock := clockCost()
	calls := make([][]time.Duration, len(subjects))
	for range p.Calls {
		for _, i := range random.Perm(len(subjects)) {
			from := random.IntN(p.TestRows - p.Rows + 1)
			calls[i] = append(calls[i], timed(subjects[i], from, p.Rows, clock))
		}
	}
	return overall(calls)
}

// timed is how long one call takes, without the clock's part in it.
func timed(s Subject, from, rows int, clock time.Duration) time.Duration {
	start := time.Now()
	if took := s.Run(from, rows); took != 0 {
		return took
	}
	return max(0, time.Since(start)-clock)
}

// clockCost is what timing a call that does nothing gives.
func clockCost() time.Duration {
	nothing := Subject{Run: func(int, int) time.Duration { return 0 }}
	costs := make([]time.Duration, 10_000)
	for i := range costs {
		costs[i] = timed(nothing, 0, 0, 0)
	}
	return Median(costs)
}

func overall(samples [][]time.Duration) []time.Duration {
	medians := make([]time.Duration, len(samples))
	for i, s := range samples {
		medians[i] = Median(s)
	}
	return medians
}

// Median sorts d and returns its middle.
func Median(d []time.Duration) time.Duration { return Quantile(d, 0.5) }

// Quantile sorts d and returns the value that a fraction q does not exceed.
func Quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

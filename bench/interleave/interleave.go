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
	// Turn, if there is one, is a whole turn of the hot condition in the place of repeated Run, for what can only time itself:
	// the times of at least least calls with rows rows each, made for as long as turn says.
	Turn func(rows int, turn time.Duration, least int) []time.Duration
}

// Plan is how to measure.
type Plan struct {
	TestRows int           // how many different rows there are
	Rows     int           // per call
	Rounds   int           // how often every subject has its turn
	Turn     time.Duration // how long a turn of the hot condition takes
	Calls    int           // calls of the shuffled condition, per subject
	Least    int           // how many calls a turn of the hot condition has at least; 0 means 5
	// Budget is how long a subject may take in all, beyond one turn or call: slow ones miss turns, evenly spread. 0 is no limit.
	Budget time.Duration
	Seed   uint64
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
	if p.Least == 0 {
		p.Least = 5
	}
	medians := make([][]time.Duration, len(subjects))
	purses := make([]purse, len(subjects))
	var calls []time.Duration // of one turn; kept, so that growing it is over after the first
	for round := range p.Rounds {
		for _, i := range random.Perm(len(subjects)) {
			if !purses[i].open(p.Budget, round, p.Rounds) {
				continue
			}
			start := time.Now()
			calls = turn(calls[:0], subjects[i], p, clock)
			purses[i].pay(time.Since(start))
			// The first calls pay for what the previous subject left behind.
			medians[i] = append(medians[i], Median(calls[len(calls)/5:]))
		}
	}
	return overall(medians)
}

// turn appends the times of one turn's calls.
func turn(calls []time.Duration, s Subject, p Plan, clock time.Duration) []time.Duration {
	if s.Turn != nil {
		return append(calls, s.Turn(p.Rows, p.Turn, p.Least)...)
	}
	from := 0
	for start := time.Now(); time.Since(start) < p.Turn || len(calls) < p.Least; {
		if from+p.Rows > p.TestRows {
			from = 0
		}
		calls = append(calls, timed(s, from, p.Rows, clock))
		from += p.Rows
	}
	return calls
}

// purse is what a subject has spent of a plan's budget.
type purse struct {
	spent time.Duration
	turns int
}

// open reports whether the subject takes part in round round of rounds: always in the first, then while it has not spent more
// than the rounds' share.
func (p *purse) open(budget time.Duration, round, rounds int) bool {
	return budget == 0 || p.turns == 0 || p.spent <= budget*time.Duration(round)/time.Duration(rounds)
}

func (p *purse) pay(d time.Duration) { p.spent += d; p.turns++ }

// Shuffled is the median time of one call of each subject when the subjects
// take turns call by call in random order, each on rows of its own choice: as in
// a process that does other things between predictions.
func Shuffled(subjects []Subject, p Plan) []time.Duration {
	random := rand.New(rand.NewPCG(p.Seed, 2))
	clock := clockCost()
	calls := make([][]time.Duration, len(subjects))
	purses := make([]purse, len(subjects))
	for round := range p.Calls {
		for _, i := range random.Perm(len(subjects)) {
			from := random.IntN(p.TestRows - p.Rows + 1)
			if !purses[i].open(p.Budget, round, p.Calls) {
				continue
			}
			start := time.Now()
			calls[i] = append(calls[i], timed(subjects[i], from, p.Rows, clock))
			purses[i].pay(time.Since(start))
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

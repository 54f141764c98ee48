package engine

import "math"

// cost is how long runs take, learned from those that were: so long for a run and
// so much longer with each row. All averages are moving ones, of some sixteen runs,
// and durations are nanoseconds.
type cost struct {
	known     bool    // by a run
	rows, run float64 // of a run; 0 while nothing is known
	// How the rows of runs vary, and their durations with them. Their ratio is what a
	// row costs, and stays while all runs have the same rows and nothing can be
	// learned about it.
	variance, covariance float64
	deviation            float64 // of runs from what was expected of them
}

// guess is what there is to know before the first run: how long warming up took with
// one row and with as many as a batch has. 0 is unknown.
func (c *cost) guess(rowNS, batchNS int64, batch int) {
	c.rows, c.run, c.deviation = 1, float64(rowNS), float64(rowNS)/2
	if rowNS > 0 && batchNS > rowNS {
		c.variance, c.covariance = 1, float64(batchNS-rowNS)/float64(batch-1)
	}
}

// add learns from a run. The first one counts for more than the guess.
func (c *cost) add(rows, ns float64) {
	const share = 1.0 / 16
	moreRows, longer, off := rows-c.rows, ns-c.run, math.Abs(ns-c.expected(1, rows))
	c.variance = (1 - share) * (c.variance + share*moreRows*moreRows)
	c.covariance = (1 - share) * (c.covariance + share*moreRows*longer)
	if !c.known {
		c.known, c.rows, c.run, c.deviation = true, rows, ns, ns/2 // one is not enough to tell
		return
	}
	c.rows += share * moreRows
	c.run += share * longer
	c.deviation += share * (off - c.deviation)
}

// perRow is what a row costs, between nothing and all there is.
func (c *cost) perRow() float64 {
	if c.variance == 0 || c.covariance <= 0 {
		return 0
	}
	return min(c.covariance/c.variance, c.run/c.rows)
}

// expected is how long so many runs of so many rows in all take.
func (c *cost) expected(runs, rows float64) float64 {
	perRow := c.perRow()
	return (c.run-perRow*c.rows)*runs + perRow*rows
}

// of is how long they take if they take rather long: as much longer as runs differ,
// and a sixteenth at least, because no clock and no scheduler can be relied on more.
func (c *cost) of(runs, rows int) float64 {
	expected := c.expected(float64(runs), float64(rows))
	return expected + max(c.deviation*float64(runs), expected/16)
}

// usual is how long a run takes, of as many rows as runs have, if it takes rather
// long.
func (c *cost) usual() float64 { return c.run + max(c.deviation, c.run/16) }

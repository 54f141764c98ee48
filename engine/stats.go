package engine

import (
	"errors"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Stats is what one model has done since it was loaded.
type Stats struct {
	Requests uint64 // answered, with or without an error, and Refused ones
	Rows     uint64 // in requests answered without an error
	// Runs is how many runs there were, RunRows how many rows they had, whether
	// anybody still wanted the answer or not. A run in parts counts once; a batch
	// that failed counts as the single runs that were made of it. InlineRuns is
	// how many of the runs were on the thread that brought the request.
	Runs, RunRows, InlineRuns uint64
	// Failed counts requests by the kind of failure.
	Failed map[string]uint64
	// Waiting is how many requests and rows wait now.
	WaitingRequests, WaitingRows int
	// Queue is the time from a request's arrival to when an instance takes it.
	// Gather is that of putting the requests of one run together, where there are
	// several. Run is that of one run. Reply is from the end of a request's run to
	// its Release, when its answer has been taken. Total is from arrival to the
	// answer, whatever it was, of requests that were not Refused.
	Queue, Gather, Run, Reply, Total Histogram
}

// failureKinds name the counters of Stats.Failed; the last takes the rest.
var failureKinds = [...]struct {
	name string
	err  error
}{
	{"input", ErrInvalidInput},
	{"busy", ErrBusy},
	{"deadline", ErrDeadline},
	{"canceled", ErrCanceled},
	{"memory", ErrMemory},
	{"run", ErrRun},
	{"other", nil},
}

// counters are the live form of Stats. How many runs there were and how many
// requests were not refused is what the histograms count.
type counters struct {
	refused, rows, runRows, inlineRuns atomic.Uint64
	failed                             [len(failureKinds)]atomic.Uint64
	queue, gather, run, reply, total   histogram
}

// outcome records what the callers of so many requests got, ns after they asked.
func (c *counters) outcome(requests uint64, rows int, ns int64, err error) {
	c.total.add(ns, requests)
	if err == nil {
		c.rows.Add(uint64(rows))
		return
	}
	c.fail(err, requests)
}

// refuse records what did not become a request.
func (c *counters) refuse(err error) {
	c.refused.Add(1)
	c.fail(err, 1)
}

func (c *counters) fail(err error, requests uint64) {
	for i, kind := range failureKinds {
		if kind.err == nil || errors.Is(err, kind.err) {
			c.failed[i].Add(requests)
			return
		}
	}
}

// ran records a run. Callers that gave up meanwhile have their outcomes recorded
// already.
func (c *counters) ran(rows int, ns int64) {
	c.runRows.Add(uint64(rows))
	c.run.record(ns)
}

func (c *counters) snapshot() Stats {
	s := Stats{
		Rows: c.rows.Load(), RunRows: c.runRows.Load(), InlineRuns: c.inlineRuns.Load(),
		Failed: make(map[string]uint64, len(failureKinds)),
		Queue:  c.queue.snapshot(), Gather: c.gather.snapshot(), Run: c.run.snapshot(), Reply: c.reply.snapshot(), Total: c.total.snapshot(),
	}
	s.Requests, s.Runs = s.Total.Count+c.refused.Load(), s.Run.Count
	for i, kind := range failureKinds {
		s.Failed[kind.name] = c.failed[i].Load()
	}
	return s
}

// Histograms have four buckets for each power of two of nanoseconds, from 1 ns
// to about 73 minutes: no bucket is wider than a quarter of its lower bound.
const (
	subBits    = 2
	octaves    = 42
	numBuckets = octaves << subBits
)

type histogram struct {
	count, sum atomic.Uint64
	buckets    [numBuckets]atomic.Uint64
}

func (h *histogram) record(ns int64) { h.add(ns, 1) }

// add records the same duration n times.
func (h *histogram) add(ns int64, n uint64) {
	v := uint64(max(ns, 0))
	h.count.Add(n)
	h.sum.Add(v * n)
	h.buckets[bucketOf(v)].Add(n)
}

// bucketOf is the index of the bucket for v. Values below 4 have a bucket each.
func bucketOf(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return min((shift+1)<<subBits|int(v>>shift)&(1<<subBits-1), numBuckets-1)
}

// upperBound is the largest value of a bucket.
func upperBound(bucket int) uint64 {
	if bucket < 1<<subBits {
		return uint64(bucket)
	}
	shift := bucket>>subBits - 1
	return (uint64(1<<subBits|bucket&(1<<subBits-1))+1)<<shift - 1
}

// Histogram is a distribution of durations.
type Histogram struct {
	Count   uint64
	Sum     time.Duration
	buckets [numBuckets]uint64
}

func (h *histogram) snapshot() Histogram {
	s := Histogram{Count: h.count.Load(), Sum: time.Duration(h.sum.Load())}
	for i := range h.buckets {
		s.buckets[i] = h.buckets[i].Load()
	}
	return s
}

// Since is what h has counted after before, an earlier Histogram of the same model.
func (h *Histogram) Since(before *Histogram) Histogram {
	// What is counted goes on while it is read, so a part may be there before the whole.
	s := Histogram{Count: h.Count - min(before.Count, h.Count), Sum: h.Sum - min(before.Sum, h.Sum)}
	for i := range h.buckets {
		s.buckets[i] = h.buckets[i] - min(before.buckets[i], h.buckets[i])
	}
	return s
}

// Each calls do for every bucket that is not empty, in ascending order, with the
// nanoseconds in the middle of it, which no value in it differs from by more than an
// eighth.
func (h *Histogram) Each(do func(middle float64, count uint64)) {
	for i, n := range h.buckets {
		if n == 0 {
			continue
		}
		lowest := 0.0
		if i > 0 {
			lowest = float64(upperBound(i-1)) + 1
		}
		do((lowest+float64(upperBound(i)))/2, n)
	}
}

// Below is how many values were below 2^exponent nanoseconds: powers of two are
// where buckets end.
func (h *Histogram) Below(exponent int) uint64 {
	var n uint64
	for i, count := range h.buckets {
		if bits.Len64(upperBound(i)) > exponent {
			break
		}
		n += count
	}
	return n
}

// Quantile is a duration that a fraction q of the values does not exceed, at
// most a quarter above the exact one; 0 when there are no values.
func (h *Histogram) Quantile(q float64) time.Duration {
	var total uint64
	for _, n := range h.buckets {
		total += n
	}
	if total == 0 {
		return 0
	}
	// The bucket that holds the value of this rank, counted from 1.
	rank := max(uint64(math.Ceil(q*float64(total))), 1)
	for i, n := range h.buckets {
		if rank <= n {
			return time.Duration(upperBound(i))
		}
		rank -= n
	}
	return time.Duration(upperBound(numBuckets - 1))
}

package features

import (
	"slices"
	"time"
)

const (
	retentionMillis = int64(Retention / time.Millisecond)
	delayMillis     = int64(Delay / time.Millisecond)
)

// event is one transaction in a history.
type event struct {
	at                  int64
	key                 uint64
	latitude, longitude int32
	// until are the totals of the history up to this transaction, itself included.
	until sums
}

// series is the history of one customer, terminal, merchant or device, ordered by time; among those of one time, by arrival.
type series struct {
	events []event
	// before are the totals of what was dropped from the front, so that the totals of the rest need no change.
	before sums
}

// after is the position of the first transaction later than at.
func (s *series) after(at int64) int {
	// Nearly all ask about the end.
	if n := len(s.events); n == 0 || s.events[n-1].at <= at {
		return n
	}
	low, high := 0, len(s.events)
	for low < high {
		middle := int(uint(low+high) / 2)
		if s.events[middle].at > at {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// until are the totals of the first n transactions.
func (s *series) until(n int) sums {
	if n == 0 {
		return s.before
	}
	return s.events[n-1].until
}

// windows sums the windows that end at a time.
func (s *series) windows(at int64, into *[windows]sums, from window) {
	end := s.after(at)
	total := s.until(end)
	for w := from; w < windows; w++ {
		into[w] = total.minus(s.until(s.after(at - lengths[w])))
	}
}

// add puts a transaction into its place. What is older than the history reaches back is left out.
func (s *series) add(t *Transaction) {
	i := s.after(t.At)
	if n := len(s.events); n > 0 && t.At <= s.events[n-1].at-retentionMillis {
		return
	}
	own := t.sums()
	s.events = slices.Insert(s.events, i, event{at: t.At, key: t.Key, latitude: t.Latitude, longitude: t.Longitude, until: s.until(i)})
	for j := i; j < len(s.events); j++ { // one step, unless it is late
		s.events[j].until = s.events[j].until.plus(own)
	}
	s.drop()
}

// drop forgets what is older than Retention, many at a time so that the rest is moved seldom.
func (s *series) drop() {
	old := s.after(s.events[len(s.events)-1].at - retentionMillis)
	if old < 16 || old < len(s.events)/4 {
		return
	}
	s.before = s.until(old)
	s.events = slices.Delete(s.events, 0, old)
}

// find is the position of a transaction, or -1.
func (s *series) find(t *Transaction) int {
	for i := s.after(t.At) - 1; i >= 0 && s.events[i].at == t.At; i-- {
		if s.events[i].key == t.Key {
			return i
		}
	}
	return -1
}

// own are the sums of the transaction at position i alone.
func (s *series) own(i int) sums { return s.events[i].until.minus(s.until(i)) }

// remove takes a transaction out again.
func (s *series) remove(t *Transaction) {
	i := s.find(t)
	if i < 0 {
		return
	}
	own := s.own(i)
	s.events = slices.Delete(s.events, i, i+1)
	for j := i; j < len(s.events); j++ {
		s.events[j].until = s.events[j].until.minus(own)
	}
}

// label says whether a transaction was a fraud. Saying it twice changes nothing.
func (s *series) label(t *Transaction, fraud bool) {
	i := s.find(t)
	if i < 0 || (s.own(i).frauds == 1) == fraud {
		return
	}
	for j := i; j < len(s.events); j++ {
		if fraud {
			s.events[j].until.frauds++
		} else {
			s.events[j].until.frauds--
		}
	}
}

// visits are the times at which a customer was seen with something, in order.
type visits []int64

func (v visits) after(at int64) int {
	i, _ := slices.BinarySearch(v, at+1)
	return i
}

func (v visits) inMonth(at int64) int { return v.after(at) - v.after(at-lengths[month]) }

func (v visits) add(at int64) visits {
	v = slices.Insert(v, v.after(at), at)
	if old := v.after(v[len(v)-1] - retentionMillis); old >= 16 && old >= len(v)/4 {
		v = slices.Delete(v, 0, old)
	}
	return v
}

func (v visits) remove(at int64) visits {
	if i := v.after(at) - 1; i >= 0 && v[i] == at {
		v = slices.Delete(v, i, i+1)
	}
	return v
}

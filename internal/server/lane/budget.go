package lane

import "sync/atomic"

// budget bounds the bytes of all requests under way.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes, or reports that there is no room. Requests that still
// have to arrive may fill half of it only: their clients may be slow, and what
// others have sent already must not wait for them.
func (b *budget) take(n int64, arriving bool) bool {
	limit := b.limit
	if arriving {
		limit /= 2
	}
	if b.used.Add(n) <= limit {
		return true
	}
	b.used.Add(-n)
	return false
}

// give returns what take reserved.
func (b *budget) give(n int64) { b.used.Add(-n) }

package local

import (
	"fmt"
	"sync/atomic"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

// Budget bounds the bytes of all requests under way. Servers may share one: then it bounds what all of them take together. Its
// methods may be called by many goroutines at once and allocate nothing but the error of a request that could never fit.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget makes a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// errInFlight is what a request is refused with that would go beyond the budget.
var errInFlight = fmt.Errorf("%w: requests of as many bytes as the daemon takes at a time are under way; try again later", engine.ErrBusy)

// Take reserves n bytes for a request, or fails and reserves none: with engine.ErrBusy, or with failure.ErrTooLarge where there never
// would be as many. Who took gives back.
func (b *Budget) Take(n int64) error { return b.take(n, b.limit) }

// TakeArriving is Take for a request that still has to arrive. Those may fill half of the budget only: their clients may be slow,
// and what others have sent already must not wait for them.
func (b *Budget) TakeArriving(n int64) error { return b.take(n, b.limit/2) }

func (b *Budget) take(n, limit int64) error {
	if b.used.Add(n) <= limit {
		return nil
	}
	b.used.Add(-n)
	if n > limit {
		return fmt.Errorf("%w: the request takes %d bytes, the daemon takes %d at a time: send fewer rows at once, or have limits.max_in_flight raised", failure.ErrTooLarge, n, limit)
	}
	return errInFlight
}

// Give returns what Take or TakeArriving has reserved.
func (b *Budget) Give(n int64) { b.used.Add(-n) }

// Used is how many bytes are reserved now. What is refused is reserved for a moment, so that it may seem to be more than Limit.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit is how many bytes there are.
func (b *Budget) Limit() int64 { return b.limit }

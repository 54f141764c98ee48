package oip

import (
	"fmt"
	"sync/atomic"

	"github.com/picket-ml/picket/engine"
)

// budget is how many bytes of requests may still be taken.
type budget struct{ left atomic.Int64 }

var errInFlight = fmt.Errorf("%w: requests of as many bytes as the daemon takes at a time are under way; try again later", engine.ErrBusy)

// take takes n bytes, or fails with ErrBusy and takes none.
func (b *budget) take(n int) error {
	if b.left.Add(-int64(n)) < 0 {
		b.left.Add(int64(n))
		return errInFlight
	}
	return nil
}

// giveBack is the reverse of take.
func (b *budget) giveBack(n int) { b.left.Add(int64(n)) }

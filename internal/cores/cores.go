// Package cores counts the threads of this process that are busy with long runs of
// models. It is one count for all backends, so that helpers of one model never take
// a core from another: a helper starts only where the count stays within Limit.
// Runs too short to be shared are not counted: they are over before a helper would
// have started.
package cores

import (
	"runtime"
	"sync/atomic"

	"github.com/picket-ml/picket/internal/hw"
)

var inUse atomic.Int32

// Limit is how many threads may be busy at once: the whole cores that this process
// may use.
func Limit(host *hw.Host) int {
	return max(1, min(int(host.CPU.CoresAllowed), runtime.GOMAXPROCS(0)))
}

// Enter counts the thread that a run was called on, which is busy whatever the
// limit is. The caller gives it back.
func Enter() { inUse.Add(1) }

// Take takes up to n cores for helpers, so that at most limit are in use, and gives
// how many it got. The caller gives those back.
func Take(n, limit int) int {
	for {
		used := inUse.Load()
		got := min(n, limit-int(used))
		if got <= 0 {
			return 0
		}
		if inUse.CompareAndSwap(used, used+int32(got)) { //nolint:gosec // limited by the number of cores
			return got
		}
	}
}

// Give gives n cores back.
func Give(n int) { inUse.Add(-int32(n)) } //nolint:gosec // limited by the number of cores

// InUse is the count now.
func InUse() int { return int(inUse.Load()) }

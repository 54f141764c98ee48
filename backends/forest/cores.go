package forest

import (
	"runtime"
	"sync/atomic"

	"github.com/picket-ml/picket/internal/hw"
)

// coresInUse counts the threads of this process that are busy with large batches. It is one count for all models, so that
// helpers of one never take a core from another; a helper starts only where the count stays within coresOf. Batches too
// small to be shared are not counted: they are over before a helper would have started.
var coresInUse atomic.Int32

// coresOf is how many threads may be busy at once: the whole cores that this process may use.
func coresOf(host *hw.Host) int {
	return max(1, min(int(host.CPU.CoresAllowed), runtime.GOMAXPROCS(0)))
}

// takeCores takes up to n cores, so that at most limit are in use, and gives how many it got.
func takeCores(n, limit int) int {
	for {
		used := coresInUse.Load()
		got := min(n, limit-int(used))
		if got <= 0 {
			return 0
		}
		if coresInUse.CompareAndSwap(used, used+int32(got)) { //nolint:gosec // limited by the number of cores
			return got
		}
	}
}

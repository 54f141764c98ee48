package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/picket-ml/picket/internal/hw"
)

// limitHeap makes the garbage collector work harder before the control group's
// limit kills the process. Models and tensors are not on Go's heap, so half of
// the limit is left to them. GOMEMLIMIT, which the runtime reads itself, wins.
func limitHeap(group hw.Limit, log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" || group.Unlimited || group.Reason != "" || group.Bytes == 0 || group.Bytes > math.MaxInt64 {
		return
	}
	limit := int64(group.Bytes / 2)
	debug.SetMemoryLimit(limit)
	log.Debug("the Go heap is limited to half of the control group's memory", "bytes", limit)
}

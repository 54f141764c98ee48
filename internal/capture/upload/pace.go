package upload

import (
	"context"
	"time"
)

// A backlog has waited for hours, and predictions do not: what is prepared to leave rests after each stretch of work, rests times as
// long, while its segment leaves at least catchUp times as fast as it was captured. So a backlog shrinks at that rate, with a fifteenth of
// one processor where that is enough, and with as much as it takes where it is not.
const (
	rests   = 14
	catchUp = 15
	// longestSpan is how long a segment can have been captured: clocks jump.
	longestSpan = time.Minute
	// stretch is how many records are prepared between two rests.
	stretch = 64
)

// hurryOf is for how long a segment that was captured in so long may rest.
func hurryOf(captured time.Duration) time.Duration {
	return min(max(captured, 0), longestSpan) / catchUp
}

// pace is how a segment is prepared.
type pace struct {
	ctx     context.Context
	hurries time.Time // from when on it rests no more
}

func newPace(ctx context.Context, hurry time.Duration) *pace {
	return &pace{ctx, time.Now().Add(hurry)}
}

// work does what takes the processor, and rests.
func (p *pace) work(do func()) {
	began := time.Now()
	do()
	if d := min(rests*time.Since(began), time.Until(p.hurries)); d > 0 {
		_ = sleep(p.ctx, d) // what comes next sees that it has ended
	}
}

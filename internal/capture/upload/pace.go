package upload

import "time"

// A backlog has waited for hours, and predictions do not: what is prepared to leave rests after each stretch of work, rests times as
// long, while its segment leaves at least catchUp times as fast as it was captured. So a backlog shrinks at that rate, with a fifth of
// one processor where that is enough, and with as much as it takes where it is not.
const (
	rests   = 4
	catchUp = 15
	// longestSpan is how long a segment can have been captured: clocks jump.
	longestSpan = time.Minute
	// stretch is how many records are prepared between two rests.
	stretch = 64
)

// hurries is when a segment that begins to leave now rests no more.
func hurries(captured time.Duration) time.Time {
	return time.Now().Add(min(max(captured, 0), longestSpan) / catchUp)
}

// work does what takes the processor, one at a time of all objects of an Uploader, and rests. The error is that of the sender.
func (s *sender) work(do func() error) error {
	select {
	case s.uploader.working <- struct{}{}:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	defer func() { <-s.uploader.working }()
	began := time.Now()
	err := do()
	s.rest(time.Since(began))
	return err
}

// rest waits after so much work.
func (s *sender) rest(worked time.Duration) {
	if d := min(rests*worked, time.Until(s.hurries)); d > 0 {
		_ = sleep(s.ctx, d) // what comes next sees that it has ended
	}
}

package upload

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// What prepares records to leave rests for fourteen times as long as it works, until its segment has taken a fifteenth of the time in which
// it was captured.
func TestBacklogLeavesGently(t *testing.T) {
	const work = 10 * time.Millisecond
	for _, c := range []struct {
		captured time.Duration
		takes    time.Duration // two pieces of work
	}{
		{time.Minute, 2 * 15 * work},
		{1000 * time.Hour, 2 * 15 * work},
		{450 * time.Millisecond, 4 * work}, // 30 ms, and the second piece is late
		{150 * time.Millisecond, 2 * work},
		{0, 2 * work},
		{-time.Hour, 2 * work}, // by a clock that was set
	} {
		synctest.Test(t, func(t *testing.T) {
			hurry := hurryOf(c.captured)
			if hurry < 0 || hurry > longestSpan/catchUp {
				t.Errorf("captured in %v: rests for %v", c.captured, hurry)
			}
			p := newPace(context.Background(), hurry)
			began := time.Now()
			for range 2 {
				p.work(func() { time.Sleep(work) })
			}
			if took := time.Since(began); took != c.takes {
				t.Errorf("captured in %v: took %v, want %v", c.captured, took, c.takes)
			}
		})
	}
}

package upload

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What prepares records to leave works one at a time, and rests for four times as long, until its segment has taken a fifteenth of the
// time in which it was captured.
func TestBacklogLeavesGently(t *testing.T) {
	const work = 10 * time.Millisecond
	for _, c := range []struct {
		captured time.Duration
		takes    time.Duration // two pieces of work
	}{
		{time.Minute, 2 * 5 * work},
		{1000 * time.Hour, 2 * 5 * work},
		{450 * time.Millisecond, 4 * work}, // 30 ms, and the second piece is late
		{150 * time.Millisecond, 2 * work},
		{0, 2 * work},
		{-time.Hour, 2 * work}, // by a clock that was set
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &sender{uploader: &Uploader{working: make(chan struct{}, 1)}, ctx: context.Background(), hurries: hurries(c.captured)}
			if limit := time.Until(s.hurries); limit < 0 || limit > longestSpan/catchUp {
				t.Errorf("captured in %v: rests for %v", c.captured, limit)
			}
			began := time.Now()
			var all sync.WaitGroup
			var mu sync.Mutex
			for range 2 {
				all.Go(func() {
					if err := s.work(func() error {
						if !mu.TryLock() {
							t.Error("two work at once")
							return nil
						}
						defer mu.Unlock()
						time.Sleep(work)
						return nil
					}); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if took := time.Since(began); took != c.takes {
				t.Errorf("captured in %v: took %v, want %v", c.captured, took, c.takes)
			}
		})
	}
}

package local

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	for _, step := range []struct {
		take func(int64) error
		n    int64
		fits bool
		used int64
	}{
		{b.TakeArriving, 51, false, 0},
		{b.TakeArriving, 50, true, 50},
		{b.TakeArriving, 1, false, 50},
		{b.Take, 50, true, 100},
		{b.Take, 1, false, 100},
		{b.Take, 0, true, 100},
	} {
		err := step.take(step.n)
		if (err == nil) != step.fits || b.Used() != step.used || (err != nil && !errors.Is(err, engine.ErrBusy) && step.n <= 50) {
			t.Errorf("%d bytes: %v, and %d are used; want %t and %d", step.n, err, b.Used(), step.fits, step.used)
		}
	}
	// What can never fit is told so: to try again is no advice for it.
	if err := b.Take(101); err == nil || !strings.Contains(err.Error(), "limits.max_in_flight") || !errors.Is(err, failure.ErrTooLarge) {
		t.Errorf("101 bytes of 100: %v", err)
	}
	b.Give(100)
	if b.Used() != 0 || b.Limit() != 100 {
		t.Errorf("%d of %d are used in the end", b.Used(), b.Limit())
	}
}

// However many take at once, no more than the limit is ever taken by those who were told that they have it.
func TestBudgetOfMany(t *testing.T) {
	b := NewBudget(10)
	var mu sync.Mutex
	have := int64(0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10_000 {
				if b.Take(3) != nil {
					continue
				}
				mu.Lock()
				if have += 3; have > 10 {
					t.Errorf("%d are had of 10", have)
				}
				mu.Unlock()
				mu.Lock()
				have -= 3
				mu.Unlock()
				b.Give(3)
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 {
		t.Errorf("%d are used in the end", b.Used())
	}
}

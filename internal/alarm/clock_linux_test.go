package alarm

import (
	"testing"
	"time"
)

// A Clock never rings early, rings at once for what is past, and goes on ringing.
func TestClock(t *testing.T) {
	t.Parallel()
	c, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{-time.Hour, 0, time.Nanosecond, 100 * time.Microsecond, 3 * time.Millisecond, time.Microsecond} {
		at := time.Now().Add(after)
		if err := c.Until(at); err != nil {
			t.Fatal(err)
		}
		if early := time.Until(at); early > 0 {
			t.Errorf("%v ahead, it rings %v early", after, early)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Until(time.Now().Add(time.Hour)); err == nil {
		t.Error("a clock that is closed rings")
	}
}

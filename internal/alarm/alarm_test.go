package alarm

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

// An Alarm rings when it was told last, once, and never after it was closed.
func TestAlarm(t *testing.T) {
	for name, made := range map[string]func() *Alarm{"of the system": New, "of the runtime": OfRuntime} {
		t.Run(name, func(t *testing.T) {
			a := made()
			start := time.Now()
			a.Set(time.Hour)
			a.Set(30 * time.Millisecond)
			<-a.C()
			if took := time.Since(start); took < 30*time.Millisecond {
				t.Errorf("it rang after %v", took)
			}
			a.Set(0)
			<-a.C()
			a.Set(time.Hour)
			a.Close()
			select {
			case <-a.C():
				t.Error("it rang again")
			default:
			}
		})
	}
}

func TestAlarmOfSystem(t *testing.T) {
	if a := (&Alarm{c: make(chan struct{}, 1)}); a.ofSystem() != (runtime.GOOS == "linux") {
		t.Fatal("Linux has a clock of its own that can be waited for, and here nothing else has")
	} else if a.close != nil {
		a.Close()
	}
}

func TestAlarmOfRuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := OfRuntime()
		defer a.Close()
		start := time.Now()
		a.Set(72 * time.Hour)
		<-a.C()
		if took := time.Since(start); took != 72*time.Hour {
			t.Errorf("it rang after %v", took)
		}
	})
}

// After rings as a timer does, and leaves nothing behind where nobody waits any more.
func TestAfter(t *testing.T) {
	start := time.Now()
	if at := <-After(t.Context(), 20*time.Millisecond); at.Sub(start) < 20*time.Millisecond {
		t.Errorf("%v after %v", at, start)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := After(ctx, time.Hour)
	cancel()
	select {
	case <-c:
		t.Error("it rang")
	default:
	}
}

// TestMain sees what is left behind.
func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

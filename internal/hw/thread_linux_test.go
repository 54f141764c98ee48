package hw

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWakeSoon(t *testing.T) {
	done := make(chan struct{})
	go func() { // the thread is not unlocked, and ends with the goroutine
		defer close(done)
		runtime.LockOSThread()
		before, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if err := WakeSoon(); err != nil {
			t.Error(err)
		}
		after, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return
		}
		want := *before
		if before.Runtime != 0 { // Linux from 6.12 on tells the slice
			want.Runtime = shortSlice
		}
		if *after != want {
			t.Errorf("the thread is scheduled as %+v, want %+v", *after, want)
		}
	}()
	<-done
}

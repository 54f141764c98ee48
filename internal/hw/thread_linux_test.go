package hw

import (
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOnOwnThread: what is called is on a thread that ends with it, whichever the caller was on, and the process's first thread is as it was.
func TestOnOwnThread(t *testing.T) {
	first, err := processAffinity()
	if err != nil {
		t.Fatal(err)
	}
	bind := func(thread chan<- int) func() {
		return func() {
			if onFirstThread() {
				t.Error("it is on the process's first thread")
			}
			if _, err := BindThread(first[len(first)-1:]); err != nil {
				t.Error(err)
			}
			thread <- unix.Gettid()
		}
	}
	for range 100 {
		thread := make(chan int, 1)
		go OnOwnThread(bind(thread))
		ends(t, <-thread)
	}
	// Which goroutine is on the first thread is not for a test to say: what is done there, from any.
	thread := make(chan int, 1)
	done := make(chan int)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		elsewhere(bind(thread))
		done <- unix.Gettid()
	}()
	at, here := <-thread, <-done
	if at == here {
		t.Error("it was called on the thread of its caller")
	}
	ends(t, at)
	if now, err := processAffinity(); err != nil || !slices.Equal(now, first) {
		t.Errorf("the process may use the CPUs %v, %v now, %v before", now, err, first)
	}
}

// ends waits for a thread's end.
func ends(t *testing.T, tid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := unix.Tgkill(os.Getpid(), tid, 0); err == unix.ESRCH {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("thread %d does not end", tid)
		}
	}
}

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

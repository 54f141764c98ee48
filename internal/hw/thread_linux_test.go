package hw

import (
	"os"
	"os/exec"
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
		if want := withSlice(*before, shortSlice); *after != want {
			t.Errorf("the thread is scheduled as %+v, want %+v", *after, want)
		}
	}()
	<-done
}

// withSlice is how a thread is scheduled that was so before and got a slice: Linux from 6.12 on tells it.
func withSlice(before unix.SchedAttr, slice uint64) unix.SchedAttr {
	if before.Runtime != 0 {
		before.Runtime = slice
	}
	return before
}

// changeChild has the test binary change itself and say what came of it.
const changeChild = "PICKET_TEST_CHANGE_CHILD"

// inChild runs the test in a process of its own.
func inChild(t *testing.T) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	command.Env = append(os.Environ(), changeChild+"=1")
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// startThreads starts threads that wait until stop.
func startThreads(n int, stop <-chan struct{}) {
	for range n {
		started := make(chan struct{})
		go OnOwnThread(func() { close(started); <-stop })
		<-started
	}
}

// TestBindProcess: all threads that a process has, and those that it starts later, are on the CPUs, and BindThread still has a thread go elsewhere.
func TestBindProcess(t *testing.T) {
	all, err := processAffinity()
	if err != nil {
		t.Fatal(err)
	}
	first, last := all[:1], all[len(all)-1:]
	if os.Getenv(changeChild) == "" {
		inChild(t)
		return
	}
	stop := make(chan struct{})
	defer close(stop)
	startThreads(8, stop)
	if err := BindProcess(os.Getpid(), first); err != nil {
		t.Fatal(err)
	}
	startThreads(8, stop)
	if err := eachThread(os.Getpid(), func(id int) (bool, error) {
		var now unix.CPUSet
		err := unix.SchedGetaffinity(id, &now)
		if err == nil && now != setOf(first) {
			t.Errorf("a thread is on other CPUs than %v", first)
		}
		return false, err
	}); err != nil {
		t.Error(err)
	}
	bound := make(chan error)
	go OnOwnThread(func() {
		_, err := BindThread(last)
		bound <- err
	})
	if err := <-bound; err != nil {
		t.Errorf("a thread could not be bound to %v: %v", last, err)
	}
	if err := BindProcess(os.Getpid(), []int{maxCPU % 1024}); err == nil {
		t.Error("a process was bound to a CPU that is not there")
	}
}

// TestGiveWay: all threads that a process has, and those that it starts later, have the longest slice and the least weight.
func TestGiveWay(t *testing.T) {
	if os.Getenv(changeChild) == "" {
		inChild(t)
		return
	}
	stop := make(chan struct{})
	defer close(stop)
	startThreads(8, stop)
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := GiveWay(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	startThreads(8, stop)
	want := withSlice(*before, longSlice)
	want.Nice = leastNice
	threads := 0
	if err := eachThread(os.Getpid(), func(id int) (bool, error) {
		threads++
		a, err := unix.SchedGetAttr(id, 0)
		if err == nil && *a != want {
			t.Errorf("a thread is scheduled as %+v, want %+v", *a, want)
		}
		return false, err
	}); err != nil || threads < 16 {
		t.Errorf("%d threads were asked: %v", threads, err)
	}
	if err := GiveWay(os.Getpid()); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

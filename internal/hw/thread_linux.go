package hw

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// onFirstThread tells whether the calling thread is the one that the process began with.
func onFirstThread() bool { return unix.Gettid() == os.Getpid() }

// BindThread has the calling OS thread run on the CPUs alone, and returns what takes
// that back. The caller has locked its goroutine to the thread, and unlocks it after
// taking it back or not at all: the threads that Go starts later are not concerned,
// those that a native library starts from here are bound as well. Whether the process
// may use the CPUs is for the caller to check; the kernel lets a process widen what
// taskset narrowed.
func BindThread(cpus []int) (restore func() error, err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("asking which CPUs a thread may use: %w", err)
	}
	set := setOf(cpus)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("binding a thread to the CPUs %s: %w", FormatCPUs(cpus), err)
	}
	return func() error {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			return fmt.Errorf("giving a thread its CPUs back: %w", err)
		}
		return nil
	}, nil
}

// ThreadCPUs are the CPUs that a thread may use, by its number, ascending; 0 is the calling thread.
func ThreadCPUs(thread int) (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(thread, &set); err != nil {
		return nil, fmt.Errorf("asking which CPUs a thread may use: %w", err)
	}
	for cpu, left := 0, set.Count(); left > 0; cpu++ {
		if set.IsSet(cpu) {
			cpus, left = append(cpus, cpu), left-1
		}
	}
	return cpus, nil
}

func setOf(cpus []int) (set unix.CPUSet) {
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return set
}

// BindProcess has all threads of a process run on the CPUs alone, and those that they start from now on: a thread begins with the CPUs of the one
// that started it, and BindThread may have it go elsewhere after that. Whether the process may use the CPUs is for the caller to check, as with
// BindThread. One that has ended has no threads.
func BindProcess(pid int, cpus []int) error {
	set := setOf(cpus)
	err := eachThread(pid, func(id int) (bool, error) {
		var now unix.CPUSet
		err := unix.SchedGetaffinity(id, &now)
		if err != nil || now == set {
			return false, err
		}
		return true, unix.SchedSetaffinity(id, &set)
	})
	if err != nil {
		return fmt.Errorf("binding process %d to the CPUs %s: %w", pid, FormatCPUs(cpus), err)
	}
	return nil
}

// eachThread calls change for the threads of a process until it has changed none of them: a thread may start another between two
// looks, which begins as the first was then.
func eachThread(pid int, change func(id int) (changed bool, err error)) error {
	for range 1000 {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		any := false
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				return err
			}
			changed, err := change(id)
			if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
				return err
			}
			any = any || changed
		}
		if !any {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	return errors.New("it keeps starting threads that have to be changed")
}

const (
	// shortSlice and longSlice are the shortest and the longest slice that the kernel gives, in nanoseconds.
	shortSlice, longSlice = 100_000, 100_000_000
	// leastNice is the niceness of who gets the least of a processor.
	leastNice = 19
	// ordinary is the policy SCHED_OTHER.
	ordinary = 0
)

// WakeSoon has the calling OS thread, and those that are started from it, get a processor soon
// after they wake though others are busy: the kernel is asked to give the thread little time at
// a time, and lets those with a short slice go before those with a long one, 1.4 to 3 ms as a
// rule. It takes no more of the processors in all. Linux before 6.12 does not know the wish and
// ignores it. A thread that was given a policy of its own, as by chrt, keeps it.
func WakeSoon() error {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return fmt.Errorf("asking how a thread is scheduled: %w", err)
	}
	if a.Policy != ordinary {
		return nil
	}
	a.Runtime = shortSlice
	if err := unix.SchedSetAttr(0, a, 0); err != nil {
		return fmt.Errorf("asking for a short slice of a processor: %w", err)
	}
	return nil
}

// GiveWay has all threads of a process, and those that they start from now on, leave the processors to others: they get the least
// part of one that others want, and a long slice. Without that, a thread that has just woken keeps its processor for some
// milliseconds, whatever its niceness, and others that wake there wait; the kernel lets those with a shorter slice go first from
// Linux 6.12 on. Threads that were given a policy of their own, as by chrt, keep it.
//
// SCHED_IDLE would not do: to the kernel a processor on which such a thread runs is free, so it sends there what wakes, and has
// it wait.
func GiveWay(pid int) error {
	err := eachThread(pid, func(id int) (bool, error) {
		before, err := unix.SchedGetAttr(id, 0)
		if err != nil || before.Policy != ordinary {
			return false, err
		}
		a := *before
		a.Nice, a.Runtime = leastNice, longSlice
		if err := unix.SchedSetAttr(id, &a, 0); err != nil {
			return false, err
		}
		after, err := unix.SchedGetAttr(id, 0) // older kernels do not tell the slice
		return err == nil && *after != *before, err
	})
	if err != nil {
		return fmt.Errorf("having process %d give way to others: %w", pid, err)
	}
	return nil
}

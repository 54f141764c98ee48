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
	// A thread may start another between two looks, which has the CPUs that the first had then.
	for range 1000 {
		bound, err := bindThreads(pid, set)
		if err != nil {
			return fmt.Errorf("binding process %d to the CPUs %s: %w", pid, FormatCPUs(cpus), err)
		}
		if !bound {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	return fmt.Errorf("binding process %d to the CPUs %s: it keeps starting threads on others", pid, FormatCPUs(cpus))
}

// bindThreads binds the threads that there are, and reports whether one was not bound yet.
func bindThreads(pid int, set unix.CPUSet) (bound bool, err error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return false, err
		}
		var now unix.CPUSet
		if err = unix.SchedGetaffinity(id, &now); err == nil && now != set {
			bound = true
			err = unix.SchedSetaffinity(id, &set)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
			return false, err
		}
	}
	return bound, nil
}

const (
	// shortSlice is the shortest slice that the kernel gives, in nanoseconds.
	shortSlice = 100_000
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

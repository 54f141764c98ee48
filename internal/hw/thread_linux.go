package hw

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// BindThread has the calling OS thread run on the CPUs alone, and returns what takes
// that back. The caller has locked its goroutine to the thread, and unlocks it after
// taking it back or not at all: the threads that Go starts later are not concerned,
// those that a native library starts from here are bound as well. Whether the process
// may use the CPUs is for the caller to check; the kernel lets a process widen what
// taskset narrowed.
func BindThread(cpus []int) (restore func() error, err error) {
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("asking which CPUs a thread may use: %w", err)
	}
	for _, cpu := range cpus {
		set.Set(cpu)
	}
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

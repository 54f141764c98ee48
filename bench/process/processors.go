package process

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/hw"
)

// Allowed are the processors that this process may run on now.
func Allowed() (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("asking which processors there are: %w", err)
	}
	for cpu, left := 0, set.Count(); left > 0; cpu++ {
		if set.IsSet(cpu) {
			cpus, left = append(cpus, cpu), left-1
		}
	}
	return cpus, nil
}

// KeepOn keeps all threads of a process, and those that they start, on processors.
func KeepOn(pid int, cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil {
		return fmt.Errorf("listing the threads of process %d: %w", pid, err)
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(filepath.Base(t))
		if err != nil {
			return fmt.Errorf("listing the threads of process %d: %w", pid, err)
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) { // it has just ended
			return fmt.Errorf("keeping process %d on processors %s: %w", pid, hw.FormatCPUs(cpus), err)
		}
	}
	return nil
}

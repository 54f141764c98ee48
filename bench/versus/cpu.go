package versus

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of /proc/PID/stat: the kernel gives it to programs as a hundredth of a second, whatever its own.
const clockTick = 10 * time.Millisecond

// CPU is the processors' time that the process, and those that it has started and that still run, have taken until now, in the
// program and in the kernel.
func (p *Process) CPU() (time.Duration, error) {
	total, err := CPU(p.PID())
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, fmt.Errorf("listing processes: %w", err)
	}
	for _, path := range all {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			return 0, fmt.Errorf("listing processes: %w", err)
		}
		if parent, _, err := Stat(pid); err != nil || parent != p.PID() {
			continue // it may have ended
		}
		if took, err := CPU(pid); err == nil {
			total += took
		}
	}
	return total, nil
}

// CPU is the processors' time of a process until now, to the nanosecond.
func CPU(pid int) (time.Duration, error) {
	var now unix.Timespec
	// The clock of a process is its number turned round, and 2 for what the scheduler counts.
	if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil {
		return 0, fmt.Errorf("reading the clock of process %d: %w", pid, err)
	}
	return time.Duration(now.Nano()), nil
}

// Stat reads a process's parent and its processors' time.
func Stat(pid int) (parent int, took time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("reading what a process took: %w", err)
	}
	// The name stands in brackets and may hold blanks. After it are the state and the parent; from the 12th field on, the time in
	// the program and in the kernel.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("reading /proc/%d/stat: it has %d fields", pid, len(fields))
	}
	numbers := [3]int64{}
	for i, at := range [...]int{1, 11, 12} {
		if numbers[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return 0, 0, fmt.Errorf("reading /proc/%d/stat: %w", pid, err)
		}
	}
	return int(numbers[0]), time.Duration(numbers[1]+numbers[2]) * clockTick, nil
}

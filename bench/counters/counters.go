// Package counters reads the processor's counters for one process, through perf_event_open.
package counters

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Values are what was counted.
type Values struct{ Instructions, Cycles, CacheMisses, BranchMisses uint64 }

// event is what one counter counts.
type event struct{ kind, what uint64 }

// processors are in the order of the fields of Values.
var processors = [4]event{
	{unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_INSTRUCTIONS}, {unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_CPU_CYCLES},
	{unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_CACHE_MISSES}, {unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_BRANCH_MISSES},
}

// Set counts for a process from Open to Close. One goroutine uses it.
type Set struct {
	// UserOnly says that what the kernel did for the process is not in the counts: this user may not see it.
	UserOnly bool
	files    [4][]int // by event
}

// Open begins to count for all threads of a process and those that they start; 0 is this process. The error says in one sentence
// why that cannot be: the hypervisor hides the counters, or the kernel forbids them.
func Open(pid int) (*Set, error) { return open(pid, processors) }

func open(pid int, events [4]event) (_ *Set, err error) {
	if pid == 0 {
		pid = os.Getpid()
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil || len(threads) == 0 {
		return nil, fmt.Errorf("process %d has no threads", pid)
	}
	s := &Set{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, thread := range threads {
		tid, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", thread, err)
		}
		for i, e := range events {
			fd, err := s.count(tid, e)
			switch {
			case errors.Is(err, unix.ESRCH): // the thread has ended
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV):
				return nil, errors.New("the processor's counters are not there: a hypervisor hides them")
			case forbidden(err):
				return nil, fmt.Errorf("the kernel does not let this user read the processor's counters (kernel.perf_event_paranoid is %s); run as root, or set it to 1", Paranoid())
			case err != nil:
				return nil, fmt.Errorf("opening a counter of the processor: %w", err)
			default:
				s.files[i] = append(s.files[i], fd)
			}
		}
	}
	return s, nil
}

// count opens one counter of a thread, of the program alone where the kernel's part is forbidden. What the first one may, all may.
func (s *Set) count(tid int, e event) (fd int, err error) {
	attributes := unix.PerfEventAttr{
		Type: uint32(e.kind), Config: e.what, Size: unix.PERF_ATTR_SIZE_VER0, // the fields below are all within
		// With their times, as there may be fewer counters than events.
		Read_format: unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING,
		Bits:        unix.PerfBitInherit | unix.PerfBitExcludeHv,
	}
	if s.UserOnly {
		attributes.Bits |= unix.PerfBitExcludeKernel
	}
	fd, err = unix.PerfEventOpen(&attributes, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if forbidden(err) && !s.UserOnly && len(s.files[0]) == 0 {
		s.UserOnly = true
		return s.count(tid, e)
	}
	return fd, err
}

func forbidden(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

// Paranoid is what the kernel's setting perf_event_paranoid is, of who may look at what.
func Paranoid() string {
	text, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// Read gives what was counted so far.
func (s *Set) Read() (Values, error) {
	var v Values
	for i, into := range []*uint64{&v.Instructions, &v.Cycles, &v.CacheMisses, &v.BranchMisses} {
		for _, fd := range s.files[i] {
			var b [24]byte // the value, the time enabled, the time counted
			if n, err := unix.Read(fd, b[:]); err != nil || n != len(b) {
				return v, fmt.Errorf("reading a counter of the processor: %d bytes, %w", n, err)
			}
			*into += scaled(binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:]))
		}
	}
	return v, nil
}

// scaled is the value for all of the time that the counter was to count, of which others had their share of the processor's.
func scaled(value, enabled, counted uint64) uint64 {
	if counted == 0 || counted >= enabled {
		return value
	}
	return uint64(float64(value) * float64(enabled) / float64(counted))
}

// Close ends the counting.
func (s *Set) Close() error {
	var all error
	for i := range s.files {
		for _, fd := range s.files[i] {
			all = errors.Join(all, unix.Close(fd))
		}
		s.files[i] = nil
	}
	return all
}

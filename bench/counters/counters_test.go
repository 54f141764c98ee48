package counters

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestScaled(t *testing.T) {
	t.Parallel()
	for _, c := range [][4]uint64{{100, 10, 10, 100}, {100, 20, 10, 200}, {0, 20, 0, 0}, {7, 10, 11, 7}} {
		if got := scaled(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("scaled(%d, %d, %d) = %d, want %d", c[0], c[1], c[2], got, c[3])
		}
	}
}

// TestOpen counts where the machine lets it, and says in a sentence why where it does not. It is not parallel: it counts the files of the
// process, of which TestCount opens some.
func TestOpen(t *testing.T) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := files()
	s, err := Open(0)
	if err == nil {
		first, err1 := s.Read()
		x := 1
		for i := range 1_000_000 {
			x = x*31 + i
		}
		second, err2 := s.Read()
		if err1 != nil || err2 != nil || x == 0 || second.Instructions < first.Instructions+1_000_000 {
			t.Errorf("a million turns of a loop are counted as %d to %d instructions, %v, %v", first.Instructions, second.Instructions, err1, err2)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	} else if len(err.Error()) < 40 {
		t.Errorf("that there are no counters is said as %q", err)
	}
	if after := files(); after != before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
	if _, err := Open(1 << 30); err == nil {
		t.Error("a process that is not there is counted")
	}
}

// TestCount counts what the kernel counts itself, which a virtual machine has too: the pages that a thread of this process touches for
// the first time. Where that is forbidden, it is said.
func TestCount(t *testing.T) {
	t.Parallel()
	faults := event{unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_PAGE_FAULTS}
	s, err := open(0, [4]event{faults, faults, faults, faults})
	if err != nil {
		if !strings.Contains(err.Error(), "does not let this user") {
			t.Error(err)
		}
		return
	}
	before, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	const pages = 2000
	touched := make(chan error)
	go func() {
		memory, err := unix.Mmap(-1, 0, pages*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err == nil {
			err = unix.Madvise(memory, unix.MADV_NOHUGEPAGE)
		}
		if err == nil {
			for i := 0; i < len(memory); i += os.Getpagesize() {
				memory[i] = 1
			}
			err = unix.Munmap(memory)
		}
		touched <- err
	}()
	if err := <-touched; err != nil {
		t.Fatal(err)
	}
	after, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	if after.Instructions < before.Instructions+pages || after.BranchMisses < before.BranchMisses+pages {
		t.Errorf("%d pages were touched, and %+v, then %+v counted", pages, before, after)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

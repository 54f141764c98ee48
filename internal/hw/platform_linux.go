package hw

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func systemRoot() fs.FS { return os.DirFS("/") }

// processAffinity asks for the main thread's CPUs, not the calling thread's:
// the caller may run on a thread that was pinned to serve a model.
func processAffinity() ([]int, error) {
	cpus, err := ThreadCPUs(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("the kernel did not say on which CPUs this process may run: %w", err)
	}
	return cpus, nil
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("asking for the kernel release: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

func memlockLimit() Limit {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		return Limit{Reason: fmt.Sprintf("the kernel did not say how much memory may be pinned: %v", err)}
	}
	if r.Cur == unix.RLIM_INFINITY {
		return Limit{Unlimited: true}
	}
	return Limit{Bytes: r.Cur}
}

//go:build !linux

package hw

import (
	"errors"
	"io/fs"
	"runtime"
)

// noFiles is a root without files: only Linux has /proc and /sys, and what is
// read there must come out as absent, not as another system's files.
type noFiles struct{}

func (noFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func systemRoot() fs.FS { return noFiles{} }

func processAffinity() ([]int, error) {
	return nil, errors.New("CPU affinity is read on Linux only, and this is " + runtime.GOOS)
}

func kernelRelease() (string, error) {
	return "", errors.New("the kernel release is read on Linux only, and this is " + runtime.GOOS)
}

func memlockLimit() Limit {
	return Limit{Reason: "limits on pinned memory are read on Linux only, and this is " + runtime.GOOS}
}

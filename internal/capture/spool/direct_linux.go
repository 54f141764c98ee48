package spool

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// WriteAt implements File. Whole blocks go to the disk from where they are, with no copy in the kernel's cache, where the file system
// can do that.
func (f *osFile) WriteAt(b []byte, at int64) (int, error) {
	if len(b) >= blockFrom && len(b)%block == 0 && at%block == 0 && !f.cached {
		if f.direct == nil {
			var err error
			if f.direct, err = f.root.OpenFile(f.name, os.O_WRONLY|unix.O_DIRECT, 0); err != nil {
				f.cached = true // as tmpfs was, until Linux 6.6
			}
		}
		if f.direct != nil {
			n, err := f.direct.WriteAt(b, at)
			if err == nil || !errors.Is(err, unix.EINVAL) {
				return n, err
			}
			// The memory was not aligned, or this file system wants more.
		}
	}
	return f.File.WriteAt(b, at)
}

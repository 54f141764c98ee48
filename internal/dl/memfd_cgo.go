//go:build cgo && linux

package dl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// sealedCopy copies f into a memory file that nobody, this process included, can change any more. The caller owns the
// descriptor.
func sealedCopy(f *os.File, name string) (memfd int, size int64, err error) {
	fail := func(err error) (int, int64, error) {
		return noFile, 0, fmt.Errorf("opening library %s: %w", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	size = info.Size()
	switch {
	case !info.Mode().IsRegular():
		return fail(errors.New("it is not a regular file"))
	case size == 0:
		return fail(errors.New("it is empty"))
	case size > MaxFileSize:
		return fail(fmt.Errorf("it has %d bytes, more than the %d that fit a library", size, MaxFileSize))
	}
	memfd, err = createMemfd(name)
	if err != nil {
		return fail(err)
	}
	if err := copyAndSeal(memfd, f, size); err != nil {
		unix.Close(memfd)
		return fail(err)
	}
	return memfd, size, nil
}

func createMemfd(name string) (int, error) {
	// The kernel shows the name in /proc/PID/maps, so that profilers name the library; it takes 249 bytes.
	name = strings.ReplaceAll(name, "\x00", "")
	name = name[:min(len(name), 249)]
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	memfd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		// Kernels before 6.3 do not know the flag; there every memory file is executable.
		memfd, err = unix.MemfdCreate(name, flags)
	}
	if errors.Is(err, unix.EACCES) {
		return noFile, errors.New("this host forbids executable memory files; set the sysctl vm.memfd_noexec to 0 or 1")
	}
	if err != nil {
		return noFile, fmt.Errorf("creating a memory file: %w", tooManyFiles(err))
	}
	return memfd, nil
}

// tooManyFiles adds to an error of that kind what to do; others it returns as they are.
func tooManyFiles(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("this process has as many files open as it may; raise LimitNOFILE (ulimit -n): %w", err)
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("this host has as many files open as it may; raise the sysctl fs.file-max, or LimitNOFILE (ulimit -n) of fewer services: %w", err)
	}
	return err
}

func copyAndSeal(memfd int, f *os.File, size int64) error {
	// One allocation up front: a full memory limit is an error here, not a SIGBUS while the code runs.
	for {
		err := unix.Fallocate(memfd, 0, 0, size)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reserving %d bytes of memory for it: %w", size, err)
		}
		break
	}
	copied, err := io.Copy(descriptorWriter(memfd), io.NewSectionReader(f, 0, size))
	if err != nil {
		return fmt.Errorf("copying it to memory: %w", err)
	}
	if copied != size {
		return fmt.Errorf("it shrank from %d to %d bytes while it was copied", size, copied)
	}
	// F_SEAL_SEAL last of all: no further seals, and none can be taken back.
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(memfd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("sealing its copy: %w", err)
	}
	return nil
}

// A descriptorWriter writes to a descriptor, which stays its owner's.
type descriptorWriter int

func (d descriptorWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(int(d), p[done:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

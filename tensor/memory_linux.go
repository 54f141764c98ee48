package tensor

import "golang.org/x/sys/unix"

// preferLargePages lets the kernel back memory, which is whole large pages, with such. Where it has been built or told not to,
// it says so, and small ones do.
func preferLargePages(memory []byte) { _ = unix.Madvise(memory, unix.MADV_HUGEPAGE) }

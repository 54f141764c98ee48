package pipeline

import (
	"io/fs"
	"syscall"
)

// identity is when the file was changed last by the kernel's own account, which nobody can set back, and which file it is.
func identity(info fs.FileInfo) (ctime int64, inode, device uint64) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, 0
	}
	return stat.Ctim.Nano(), stat.Ino, stat.Dev
}

package pipeline

import "io/fs"

// identity is not known: a file is told by its size and time alone.
func identity(fs.FileInfo) (ctime int64, inode, device uint64) { return 0, 0, 0 }

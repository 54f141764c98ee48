package store

import (
	"errors"
	"syscall"
)

// isUnusablePath tells whether err says that the path itself, and not what it
// leads to, is at fault: too long, a zero byte in it, links in a circle, or a
// file where a folder should be on the way.
func isUnusablePath(err error) bool {
	return errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.EINVAL) ||
		errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR)
}

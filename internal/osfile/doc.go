// Package osfile is what Picket asks of files beyond package os, and what each system has for it: locks that end with their holder,
// who owns a file, what must be on disk, and how much room there is. Linux has all of it; Windows has locks and room, and leaves the
// rest to the journal of its file system and the access lists of its folders.
package osfile

import "errors"

// ErrLocked is for a lock that another holder has.
var ErrLocked = errors.New("another process has locked it")

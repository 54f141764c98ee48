// Package transfer moves files between this host and a bucket: up so that an object is
// never overwritten, down so that a broken line costs only what was on it.
//
// Pull fetches ranges in parallel into a file of their own, each on the condition that
// the object is still the one it began with, and notes what it has, so that the next
// try, of this process or another, goes on from there. The file gets its name when all
// of it is there, its digest is the one that was pushed, it is on disk, and whoever
// asked for it has agreed to it. Until then, and after any failure, the file that had
// the name before is untouched.
//
// Push stores a file on the condition that there is no object of that name. Where there
// is one of the same bytes, the push has succeeded: this is also how one ends whose
// answer was lost.
package transfer

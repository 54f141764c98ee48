// Package shm reads what clients hand over in shared memory, and says who they
// are.
//
// The agent's interface names System V segments by id, and ids are guessable.
// The daemon may run as root, or as a user who can read more than a client can,
// so an id alone must not make it read memory on someone's behalf: a segment is
// used only when its owner and its creator are the user at the other end of the
// socket. Root is no exception, because "root" at the other end may be a
// container's root that could not attach the segment itself.
//
// Segments are attached read-only, copied from once, and detached before the
// call returns. Nothing here keeps a mapping, so a client that writes to, removes
// or forgets a segment changes at most its own answer.
package shm

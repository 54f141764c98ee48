package shm

import "errors"

// The ways a handle can be refused. Each is a sentence for the client: it says
// what to do and nothing about the daemon, other users or their segments. What
// the kernel said is wrapped in Error.Cause, which is for the log.
var (
	// ErrNotExist: no segment has this id, or it was removed during the call.
	ErrNotExist = errors.New("no such shared memory segment: create it before the call, keep it until the answer, and share the daemon's IPC namespace")

	// ErrTooSmall: offset and size reach past the end of the segment, or name
	// more bytes than can exist.
	ErrTooSmall = errors.New("shared memory segment too small: offset plus size must not reach past its end")

	// ErrPermission: the segment belongs to another user than the caller, or the
	// daemon's user may not read it.
	ErrPermission = errors.New("shared memory segment not usable: it must be created and owned by the calling user and readable by the daemon")

	// ErrTooLarge: more bytes than the limit given to Handle.Length.
	ErrTooLarge = errors.New("shared memory size above the limit for one tensor: send fewer rows at a time")

	// ErrUnreadable: the segment exists and is permitted, but the kernel could
	// not map it or could not supply its pages.
	ErrUnreadable = errors.New("shared memory segment not readable: the host could not supply its memory, use a smaller segment or free memory")
)

// The further ways a POSIX shared memory object can be refused.
var (
	// ErrKey: the name of an object is not one that shm_open takes.
	ErrKey = errors.New("no name of a shared memory object: it must be a slash and 1 to 254 further bytes without a slash, as shm_open takes it")

	// ErrReadOnly: the daemon's user may read the object and not write to it.
	ErrReadOnly = errors.New("shared memory object not writable by the daemon: give its user the right to write, or have the output in the answer")
)

// Error is what the functions of this package return: Kind is one of the values
// above and the whole text of the error, Cause is the kernel's reason or nil.
type Error struct {
	Kind  error
	Cause error
}

// Error returns the sentence of Kind alone, fit to be sent to the client.
func (e *Error) Error() string { return e.Kind.Error() }

// Unwrap makes errors.Is answer to Kind and to Cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

package shm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// objectDir is where the C library keeps POSIX shared memory objects.
const objectDir = "/dev/shm"

// Object is an open POSIX shared memory object. It is read and written through
// its file descriptor and never mapped: a client that shortens it gets an error,
// and the daemon no SIGBUS. Its methods may be called by many goroutines at once;
// Close while others read or write lets them finish.
type Object struct {
	file     *os.File
	readOnly bool
}

// OpenObject opens the object that shm_open calls key, with or without its slash.
// It must be owned by the peer, root being no exception. The caller closes it.
// Errors: ErrKey, ErrNotExist, ErrPermission, ErrUnreadable.
func OpenObject(key string, peer Peer) (*Object, error) {
	name := strings.TrimPrefix(key, "/")
	if name == "" || name == "." || name == ".." || len(name) > 254 || strings.ContainsAny(name, "/\x00") {
		return nil, &Error{Kind: ErrKey}
	}
	path := filepath.Join(objectDir, name)
	// A name can lead to anything: no link is followed, and opening a pipe does not
	// wait for its other end.
	const flags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	o := &Object{}
	var err error
	if o.file, err = os.OpenFile(path, os.O_RDWR|flags, 0); errors.Is(err, fs.ErrPermission) {
		o.readOnly = true
		o.file, err = os.OpenFile(path, os.O_RDONLY|flags, 0)
	}
	if err != nil {
		return nil, objectError("opening", err)
	}
	if err := o.check(peer); err != nil {
		_ = o.file.Close()
		return nil, err
	}
	return o, nil
}

// check refuses what is no memory, or somebody else's.
func (o *Object) check(peer Peer) error {
	info, err := o.file.Stat()
	if err != nil {
		return objectError("looking at", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != peer.UID || !info.Mode().IsRegular() {
		return &Error{Kind: ErrPermission}
	}
	return nil
}

// Size is the number of bytes that the object has now.
func (o *Object) Size() (uint64, error) {
	info, err := o.file.Stat()
	if err != nil {
		return 0, objectError("looking at", err)
	}
	return uint64(info.Size()), nil
}

// Removed tells whether the object has no name any more, so that nobody else can
// open it.
func (o *Object) Removed() bool {
	info, err := o.file.Stat()
	if err != nil {
		return true
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && owner.Nlink == 0
}

// Read fills dst from the offset. A client that writes meanwhile gets a mixture of
// old and new bytes in its own request. Errors: ErrTooSmall, ErrUnreadable.
func (o *Object) Read(dst []byte, offset uint64) error {
	if offset > math.MaxInt64-uint64(len(dst)) {
		return &Error{Kind: ErrTooSmall}
	}
	if _, err := o.file.ReadAt(dst, int64(offset)); err != nil {
		return objectError("reading", err)
	}
	return nil
}

// Write puts src at the offset. It does not make the object longer, unless the
// client makes it shorter in the same moment. Errors: ErrTooSmall, ErrReadOnly,
// ErrUnreadable.
func (o *Object) Write(src []byte, offset uint64) error {
	if o.readOnly {
		return &Error{Kind: ErrReadOnly}
	}
	size, err := o.Size()
	if err != nil {
		return err
	}
	if offset > size || uint64(len(src)) > size-offset {
		return &Error{Kind: ErrTooSmall}
	}
	if _, err := o.file.WriteAt(src, int64(offset)); err != nil {
		return objectError("writing", err)
	}
	return nil
}

// Close forgets the object, which stays the client's.
func (o *Object) Close() error { return o.file.Close() }

// objectError sorts what the kernel answers.
func objectError(doing string, err error) error {
	cause := fmt.Errorf("%s a shared memory object: %w", doing, err)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Kind: ErrTooSmall, Cause: cause}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrClosed):
		return &Error{Kind: ErrNotExist, Cause: cause}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EISDIR):
		return &Error{Kind: ErrPermission, Cause: cause}
	default:
		return &Error{Kind: ErrUnreadable, Cause: cause}
	}
}

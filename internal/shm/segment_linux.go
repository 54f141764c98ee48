package shm

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Available returns the number of bytes from the handle's offset to the end of
// its segment, for callers that derive a batch size from it. The answer is a
// snapshot; Copy checks again. Errors: ErrNotExist, ErrPermission, ErrTooSmall.
func Available(h Handle, peer Peer) (uint64, error) {
	id, err := segmentID(h)
	if err != nil {
		return 0, err
	}
	desc, err := stat(id, peer)
	if err != nil {
		return 0, err
	}
	if !h.fits(0, desc.Segsz) {
		return 0, &Error{Kind: ErrTooSmall}
	}
	return desc.Segsz - h.Offset, nil
}

// Copy fills dst with the len(dst) bytes that start at the handle's offset; see
// Handle.Length for how long dst should be. dst stays the caller's; after an
// error its contents are undefined. The segment is attached read-only for the
// duration of the call. Any number of calls may run at once, on one segment too.
//
// A client that writes meanwhile gets a mixture of old and new bytes in its own
// request; one that removes the segment meanwhile gets either the copy or
// ErrNotExist.
//
// Errors: ErrNotExist, ErrPermission, ErrTooSmall, ErrUnreadable.
func Copy(dst []byte, h Handle, peer Peer) error {
	id, err := segmentID(h)
	if err != nil {
		return err
	}
	// Before attaching: nobody can make the daemon map a segment that is not
	// theirs, however large.
	desc, err := stat(id, peer)
	if err != nil {
		return err
	}
	if !h.fits(uint64(len(dst)), desc.Segsz) {
		return &Error{Kind: ErrTooSmall}
	}

	mem, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
	if err != nil {
		return kernelError("attaching", err)
	}
	err = copyAttached(dst, mem, id, h, peer)
	// A failed detach would leak address space. It can only fail for an address
	// that is not attached, which would be our own mistake: not to be hidden.
	if detachErr := unix.SysvShmDetach(mem); detachErr != nil && err == nil {
		err = &Error{Kind: ErrUnreadable, Cause: fmt.Errorf("detaching a segment: %w", detachErr)}
	}
	return err
}

// copyAttached repeats the checks now that the id cannot change its meaning
// (between the first look and the attach the segment may have been removed and
// its id given to a segment of someone else; an attached one keeps its id and
// its size), then copies.
func copyAttached(dst, mem []byte, id int, h Handle, peer Peer) error {
	if _, err := stat(id, peer); err != nil {
		return err
	}
	if !h.fits(uint64(len(dst)), uint64(len(mem))) {
		return &Error{Kind: ErrTooSmall}
	}
	return copyFaulting(dst, mem[h.Offset:])
}

// copyFaulting copies len(dst) bytes of src. Memory that another process made
// may have no pages behind it (huge pages that were never reserved, for one),
// and reading it raises SIGBUS, which would end the daemon: here it becomes
// ErrUnreadable.
func copyFaulting(dst, src []byte) (err error) {
	before := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(before)
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface {
			error
			Addr() uintptr
		}:
			err = &Error{Kind: ErrUnreadable, Cause: fault}
		default:
			panic(fault)
		}
	}()
	copy(dst, src)
	return nil
}

// segmentID checks that the wire's 64 bits can be a segment id at all: the
// kernel's are non-negative 32-bit integers, and truncation would turn a foreign
// number into somebody's id.
func segmentID(h Handle) (int, error) {
	if h.ID > math.MaxInt32 {
		return 0, &Error{Kind: ErrNotExist}
	}
	return int(h.ID), nil
}

// stat describes a segment after checking that it is the peer's: both its owner
// and its creator, since the kernel grants the owner's rights to either.
func stat(id int, peer Peer) (unix.SysvShmDesc, error) {
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err != nil {
		return unix.SysvShmDesc{}, kernelError("looking at", err)
	}
	if desc.Perm.Uid != peer.UID || desc.Perm.Cuid != peer.UID {
		return unix.SysvShmDesc{}, &Error{Kind: ErrPermission}
	}
	return desc, nil
}

// kernelError sorts what shmctl and shmat answer. EINVAL and EIDRM both mean
// that the id names nothing (any more).
func kernelError(doing string, err error) error {
	cause := fmt.Errorf("%s a segment: %w", doing, err)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EIDRM):
		return &Error{Kind: ErrNotExist, Cause: cause}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return &Error{Kind: ErrPermission, Cause: cause}
	default:
		return &Error{Kind: ErrUnreadable, Cause: cause}
	}
}

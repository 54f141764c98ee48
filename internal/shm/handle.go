package shm

import "math"

// Handle names bytes of a System V segment, as it came from the wire: nothing in
// it has been checked.
type Handle struct {
	// ID is what shmget returned in the client; 0 is a valid id.
	ID uint64
	// Offset is the first byte to use, counted from the start of the segment.
	Offset uint64
	// Size is the number of bytes to use; 0 means as many as are needed.
	Size uint64
}

// Length returns how many bytes the handle stands for: its Size, or need when
// Size is 0. It looks at no segment. ErrTooLarge when that exceeds limit (the
// most one tensor may have) or cannot be addressed at all.
func (h Handle) Length(need, limit uint64) (int, error) {
	n := h.Size
	if n == 0 {
		n = need
	}
	if n > limit || n > math.MaxInt {
		return 0, &Error{Kind: ErrTooLarge}
	}
	return int(n), nil
}

// fits says whether n bytes from the handle's offset lie within size bytes.
func (h Handle) fits(n, size uint64) bool {
	return h.Offset <= size && n <= size-h.Offset
}

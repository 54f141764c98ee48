package tensor

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Alignment is the alignment of every Buffer in bytes: two cache lines, because
// CPUs fetch lines in pairs, and one register of the widest vector unit twice.
const Alignment = 128

const (
	minClass  = 7  // 128 bytes, the smallest class
	slabClass = 13 // up to 8 KiB buffers are cut from slabs
	maxClass  = 26 // up to 64 MiB buffers are kept for reuse
	slabSize  = 64 << 10
	largePage = 2 << 20 // a large page of the machines this runs on, where small ones have 4 KiB
	maxBytes  = 1 << 40 // no buffer is larger; keeps sums of sizes far from overflow
	// keepBytes bounds what one class of unslabbed buffers keeps for reuse, so
	// that a burst of large requests gives its memory back.
	keepBytes = 64 << 20
)

// Buffer is a range of off-heap bytes with a reference count. It starts with
// one reference. All methods but Retain, Release and Len need a reference to be
// held by the caller; using a Buffer after its last Release reads memory that
// someone else is writing.
type Buffer struct {
	data    []byte // what the user asked for
	memory  []byte // what the allocator gave: the whole size class or mapping
	refs    atomic.Int32
	class   int8   // size class, or one of the two below
	pinned  bool   // this buffer's own mapping is locked
	slab    *slab  // the slab it was cut from, or nil
	release func() // for wrapped memory: gives it back to its owner
	owner   Owner  // of memory that is lent
}

const (
	classUnpooled = -1 // mapped for one use
	classWrapped  = -2 // somebody else's memory
	classOwned    = -3 // memory of an Owner, which hands the Buffer out again
)

// slab is a mapping that small buffers are cut from. It is never unmapped: the
// pool's size is that of the largest number of small buffers ever live at once.
type slab struct {
	memory []byte
	pinned atomic.Bool
}

// pool keeps released buffers of one size class.
type pool struct {
	mu   sync.Mutex
	free []*Buffer
}

var (
	pools [maxClass + 1]pool

	liveBuffers atomic.Int64
	mappedBytes atomic.Int64
	pinnedBytes atomic.Int64
)

// Usage is a snapshot of what all Buffers of the process take.
type Usage struct {
	Live   int64 // buffers with a reference
	Mapped int64 // bytes mapped, whether in use or kept for reuse
	Pinned int64 // bytes locked in memory
}

// MemoryUsage tells what all Buffers of the process take now.
func MemoryUsage() Usage {
	return Usage{Live: liveBuffers.Load(), Mapped: mappedBytes.Load(), Pinned: pinnedBytes.Load()}
}

// Alloc gives a Buffer of n bytes with one reference, owned by the caller. The
// bytes are not cleared: they may hold what an earlier user left, so whoever
// hands a Buffer to a client writes all of it first.
func Alloc(n int) (*Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("allocating a buffer: negative size %d", n)
	}
	if n > maxBytes {
		return nil, fmt.Errorf("allocating a buffer: %d bytes are more than the limit of %d", n, maxBytes)
	}
	class := classOf(n)
	if class > maxClass {
		memory, err := mapMemory(roundToPage(n))
		if err != nil {
			return nil, fmt.Errorf("allocating a buffer of %d bytes: %w", n, err)
		}
		b := &Buffer{memory: memory, class: classUnpooled}
		return b.start(n), nil
	}
	p := &pools[class]
	p.mu.Lock()
	if len(p.free) == 0 {
		if err := p.grow(class); err != nil {
			p.mu.Unlock()
			return nil, fmt.Errorf("allocating a buffer of %d bytes: %w", n, err)
		}
	}
	last := len(p.free) - 1
	b := p.free[last]
	p.free[last] = nil
	p.free = p.free[:last]
	p.mu.Unlock()
	return b.start(n), nil
}

// start hands b out with n usable bytes and one reference.
func (b *Buffer) start(n int) *Buffer {
	b.data = b.memory[:n:n]
	b.refs.Store(1)
	liveBuffers.Add(1)
	return b
}

// grow puts at least one buffer of the class on the free list. p.mu is held.
func (p *pool) grow(class int) error {
	size := 1 << class
	if class > slabClass {
		memory, err := mapMemory(size)
		if err != nil {
			return err
		}
		p.free = append(p.free, &Buffer{memory: memory, class: int8(class)})
		return nil
	}
	memory, err := mapMemory(slabSize)
	if err != nil {
		return err
	}
	s := &slab{memory: memory}
	for at := 0; at < slabSize; at += size {
		p.free = append(p.free, &Buffer{memory: memory[at : at+size : at+size], class: int8(class), slab: s})
	}
	return nil
}

// Wrap makes a Buffer of memory that is not Go heap memory and that somebody
// else owns, such as a mapped segment. release is called once, after the last
// reference is gone, on whichever goroutine released it.
func Wrap(memory []byte, release func()) *Buffer {
	b := &Buffer{memory: memory, class: classWrapped, release: release}
	return b.start(len(memory))
}

// Owner has memory of a particular kind, such as what a GPU's driver has pinned, and
// lends it as Buffers again and again.
type Owner interface {
	// Returned is called after the last reference on a lent Buffer is gone, on whichever
	// goroutine released it. The Buffer is the owner's again, to be lent anew.
	Returned(b *Buffer)
}

// Own makes a Buffer of an owner's memory, which is not Go heap memory and is aligned to
// Alignment. It has no reference until it is lent.
func Own(memory []byte, owner Owner) *Buffer {
	return &Buffer{memory: memory, class: classOwned, owner: owner}
}

// Lend hands out n bytes of a Buffer of Own with one reference. Only its owner calls it,
// while nobody has a reference.
func (b *Buffer) Lend(n int) *Buffer { return b.start(n) }

// Owner is whose the memory is; nil for all but lent Buffers.
func (b *Buffer) Owner() Owner { return b.owner }

// Memory is all that was given to Own, for the owner to free.
func (b *Buffer) Memory() []byte { return b.memory }

// Len is the number of usable bytes.
func (b *Buffer) Len() int { return len(b.data) }

// Bytes is the usable memory.
func (b *Buffer) Bytes() []byte { return b.data }

// Retain counts one more reference and returns b.
func (b *Buffer) Retain() *Buffer {
	if b.refs.Add(1) <= 1 {
		panic("BUG: a tensor.Buffer was retained after its last release")
	}
	return b
}

// Release gives one reference back. With the last one the memory goes back to
// where it came from. Releasing nil does nothing.
func (b *Buffer) Release() {
	if b == nil {
		return
	}
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("BUG: a tensor.Buffer was released more often than it was retained")
	}
	liveBuffers.Add(-1)
	b.data = nil
	switch b.class {
	case classWrapped:
		b.memory = nil
		if b.release != nil {
			b.release()
		}
	case classOwned:
		b.owner.Returned(b)
	case classUnpooled:
		b.unmap()
	default:
		p := &pools[b.class]
		p.mu.Lock()
		if b.slab != nil || len(p.free)<<b.class < keepBytes {
			p.free = append(p.free, b)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		b.unmap()
	}
}

// unmap returns b's own mapping to the system.
func (b *Buffer) unmap() {
	if b.pinned {
		pinnedBytes.Add(-int64(len(b.memory)))
		b.pinned = false
	}
	unmapMemory(b.memory)
	b.memory = nil
}

// PreferLargePages has the system back the Buffer with large pages as far as they
// lie whole within its bytes, so that it takes no more memory than with small ones
// once all of it is written. It is for what a run goes through in strides or from
// end to end: the processor then finds its addresses without a walk for each 4 KiB,
// and one page fault takes the place of 512. It is called before the memory is first
// written, and before Pin. Small pages stay where the Buffer is smaller than a
// large one, where it is somebody else's memory, and where the system has none.
func (b *Buffer) PreferLargePages() {
	if b.class == classOwned || b.class == classWrapped || len(b.data) < largePage {
		return
	}
	preferLargePages(b.memory[:len(b.data)&^(largePage-1)])
}

// Pin locks the Buffer's pages in memory, so that reading and writing it never
// waits for the kernel. Small buffers share a 64 KiB slab, which is locked whole
// and stays locked. It fails, saying which limit to raise, when the process may
// not lock that much; the Buffer remains usable then. Wrapped memory cannot be
// pinned: it is its owner's.
func (b *Buffer) Pin() error {
	switch {
	case b.class == classOwned:
		return nil // owners lend what is pinned in their own way
	case b.class == classWrapped:
		return fmt.Errorf("pinning a buffer: its memory belongs to somebody else")
	case b.slab != nil:
		if b.slab.pinned.Swap(true) {
			return nil
		}
		if err := lockMemory(b.slab.memory); err != nil {
			b.slab.pinned.Store(false)
			return err
		}
		pinnedBytes.Add(int64(len(b.slab.memory)))
	case !b.pinned:
		if err := lockMemory(b.memory); err != nil {
			return err
		}
		b.pinned = true
		pinnedBytes.Add(int64(len(b.memory)))
	}
	return nil
}

// Pinned tells whether the Buffer's pages are locked in memory.
func (b *Buffer) Pinned() bool {
	return b.pinned || b.class == classOwned || (b.slab != nil && b.slab.pinned.Load())
}

// classOf is the base-2 logarithm of the size class for n bytes.
func classOf(n int) int {
	if n <= 1<<minClass {
		return minClass
	}
	return bits.Len(uint(n - 1))
}

func roundToPage(n int) int {
	const page = 64 << 10 // the largest page size of the machines this runs on
	return (n + page - 1) &^ (page - 1)
}

package cuda

import (
	"fmt"
	"math/bits"
	"sync"

	"github.com/picket-ml/picket/tensor"
)

// Limits bound what a Pool takes, in bytes; 0 is no other limit than what there is.
type Limits struct {
	Device int64 // of the device's memory
	Pinned int64 // of pinned main memory
}

// Usage is what a Pool has taken, in bytes.
type Usage struct {
	InUse int64 // lent
	Kept  int64 // given back and kept for the next who asks
	Peak  int64 // most that was in use
}

// Pool lends memory of one device, and pinned main memory to copy from and to it. Taking either from the driver costs a tenth of a millisecond
// and more, and makes the device wait; so what comes back is kept, by size, until Trim. Its methods may be called by many goroutines at once.
type Pool struct {
	c      *Context
	mu     sync.Mutex
	device shelf[*Memory]
	pinned shelf[*tensor.Buffer]
	closed bool
}

// shelf is memory of one kind. The pool's lock guards it.
type shelf[T any] struct {
	free  [classes][]T
	usage Usage
	limit int64
}

// NewPool makes a pool of the context's memory. The caller closes it before the context is released.
func NewPool(c *Context, limits Limits) *Pool {
	p := &Pool{c: c}
	p.device.limit, p.pinned.limit = limits.Device, limits.Pinned
	return p
}

// Sizes are rounded up to four steps between a power of two and the next, so that at most a quarter is for nothing.
const (
	minBits = 9 // 512 bytes
	classes = 4 * (48 - minBits)
)

// classOf is the class of n bytes, and how many a member of it has.
func classOf(n int) (class, size int) {
	n = max(n, 1<<minBits)
	top := bits.Len(uint(n-1)) - 1 // n is above 2^top, and at most 2^(top+1)
	step := 1 << max(0, top-2)
	size = (n + step - 1) / step * step
	return 4*(top-minBits+1) + (size-1<<top)/step - 1, size
}

// Memory is a range of a device's memory that was lent.
type Memory struct {
	At    Ptr
	Size  int // what there is, at least what was asked for
	class int
}

// take gives something of the class that is free, or says that so much may be taken from the driver.
func take[T any](p *Pool, s *shelf[T], class, size int, kind string) (kept T, found bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var none T
	if p.closed {
		return none, false, fmt.Errorf("allocating %d bytes %s: the pool is closed", size, kind)
	}
	if n := len(s.free[class]); n > 0 {
		kept = s.free[class][n-1]
		s.free[class][n-1] = none
		s.free[class] = s.free[class][:n-1]
		s.usage.Kept -= int64(size)
		s.lend(size)
		return kept, true, nil
	}
	if s.limit > 0 && s.usage.InUse+int64(size) > s.limit {
		return none, false, fmt.Errorf("allocating %d bytes %s: %w: %d of the %d that the configuration allows are in use", size, kind, ErrMemory, s.usage.InUse, s.limit)
	}
	s.lend(size) // taken back where the driver has none
	return none, false, nil
}

func (s *shelf[T]) lend(size int) {
	s.usage.InUse += int64(size)
	s.usage.Peak = max(s.usage.Peak, s.usage.InUse)
}

// give keeps what came back, unless the pool is closed or what is kept and in use would exceed the limit; then it is the caller's to free.
func give[T any](p *Pool, s *shelf[T], class, size int, what T) (kept bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.usage.InUse -= int64(size)
	if p.closed || s.limit > 0 && s.usage.InUse+s.usage.Kept+int64(size) > s.limit {
		return false
	}
	s.free[class] = append(s.free[class], what)
	s.usage.Kept += int64(size)
	return true
}

// Alloc lends n bytes of the device's memory, not cleared. The error wraps ErrMemory where there is not so much. The caller gives them back with
// Free, when nothing on the device uses them any more.
func (p *Pool) Alloc(n int) (*Memory, error) {
	class, size := classOf(n)
	m, found, err := take(p, &p.device, class, size, "of the device")
	if err != nil || found {
		return m, err
	}
	at, err := p.c.Alloc(size)
	if err != nil && p.Trim() > 0 { // what is kept may be what is missing
		at, err = p.c.Alloc(size)
	}
	if err != nil {
		p.untake(&p.device.usage, size)
		return nil, err
	}
	return &Memory{At: at, Size: size, class: class}, nil
}

func (p *Pool) untake(u *Usage, size int) {
	p.mu.Lock()
	u.InUse -= int64(size)
	p.mu.Unlock()
}

// Free gives back what Alloc lent; nil is nothing.
func (p *Pool) Free(m *Memory) {
	if m != nil && !give(p, &p.device, m.class, m.Size, m) {
		p.freeDevice(m)
	}
}

// freeDevice and freePinned give memory back to the driver. That a lost device has none any more is no news.
func (p *Pool) freeDevice(m *Memory) { _ = p.c.Free(m.At) }

func (p *Pool) freePinned(b *tensor.Buffer) { _ = p.c.FreeHost(b.Memory()) }

// Pinned lends n bytes of pinned main memory as a Buffer, not cleared, which comes back by itself with its last reference.
func (p *Pool) Pinned(n int) (*tensor.Buffer, error) {
	class, size := classOf(n)
	b, found, err := take(p, &p.pinned, class, size, "of pinned memory")
	if err != nil {
		return nil, err
	}
	if found {
		return b.Lend(n), nil
	}
	memory, err := p.c.AllocHost(size)
	if err != nil {
		p.untake(&p.pinned.usage, size)
		return nil, err
	}
	return tensor.Own(memory, p).Lend(n), nil
}

// Returned implements tensor.Owner.
func (p *Pool) Returned(b *tensor.Buffer) {
	class, size := classOf(len(b.Memory()))
	if !give(p, &p.pinned, class, size, b) {
		p.freePinned(b)
	}
}

// Pinned tells whether the Buffer's memory is some pool's, so that a device can copy it by itself: what is pinned for one device is for all.
func Pinned(b *tensor.Buffer) bool {
	_, is := b.Owner().(*Pool)
	return is
}

// Usage tells what the pool has taken: of the device, and pinned.
func (p *Pool) Usage() (device, pinned Usage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.device.usage, p.pinned.usage
}

// Trim gives what is kept back to the driver, and says how many bytes that were.
func (p *Pool) Trim() int64 {
	p.mu.Lock()
	device, pinned := p.device.clear(), p.pinned.clear()
	freed := p.device.usage.Kept + p.pinned.usage.Kept
	p.device.usage.Kept, p.pinned.usage.Kept = 0, 0
	p.mu.Unlock()
	for _, m := range device {
		p.freeDevice(m)
	}
	for _, b := range pinned {
		p.freePinned(b)
	}
	return freed
}

func (s *shelf[T]) clear() (all []T) {
	for class := range s.free {
		all = append(all, s.free[class]...)
		s.free[class] = nil
	}
	return all
}

// Close gives back all that is kept. Memory of the device must have come back; pinned Buffers that are lent still are freed when they do.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Trim()
}

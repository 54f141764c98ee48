//go:build linux

package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capacity is how many bytes may be under way in each direction of the rings that
// New makes.
const Capacity = 256 << 10

// The layout of the memory: a page with the positions, and then the bytes of the
// two directions. Words that different sides write lie two cache lines apart,
// because processors fetch lines in pairs.
const (
	controlSize    = 4096
	capacityAt     = 8
	directionsAt   = 128
	directionSize  = 512
	writtenAt      = 0   // written by the sender
	readerSleepsAt = 128 // 1 set by the receiver, 0 by the sender
	readAt         = 256 // written by the receiver
	writerSleepsAt = 384 // 1 set by the sender, 0 by the receiver
)

// magic is what the memory begins with; the last byte is the layout's version.
const magic = "PKRING\x00\x01"

// maxCapacity is more than any daemon gives, and lets positions of 32 bits tell
// full from empty.
const maxCapacity = 1 << 26

// ErrCorrupt is for positions that cannot be: the other side is broken, or means
// harm.
var ErrCorrupt = errors.New("the ring's positions make no sense")

// Ring is one side's view of the memory. In is for one goroutine at a time, and so
// is Out; the other methods may be called by any, and at the same time.
type Ring struct {
	In  Receiver
	Out Sender

	closed atomic.Bool // the other side is gone, or this one does not want to go on

	mu     sync.Mutex // keeps the memory mapped while somebody else's goroutine is woken
	memory []byte     // nil when it was unmapped
}

// New makes the memory and maps it as the daemon's side. The descriptor is for the
// client, and the caller's to close. All of the memory is taken now, so that there
// is either a ring or an error.
func New(spins *Spins) (r *Ring, fd int, err error) {
	const size = controlSize + 2*Capacity
	fd, err = unix.MemfdCreate("picket-lane", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("picket-lane", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, -1, fmt.Errorf("making a ring: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	if err := unix.Fallocate(fd, 0, 0, size); err != nil {
		return nil, -1, fmt.Errorf("taking the memory of a ring: %w", err)
	}
	// Memory that can be made shorter is a way to kill whoever has mapped it.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, -1, fmt.Errorf("sealing a ring: %w", err)
	}
	memory, err := mapShared(fd, size)
	if err != nil {
		return nil, -1, err
	}
	copy(memory, magic)
	binary.LittleEndian.PutUint32(memory[capacityAt:], Capacity)
	return newRing(memory, Capacity, 0, spins), fd, nil
}

// Map maps what New has made, as the client's side. The descriptor stays the
// caller's, who may close it at once.
func Map(fd int, spins *Spins) (*Ring, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return nil, fmt.Errorf("mapping a ring: what was handed over is no memory that is sealed against shrinking: %w", errors.Join(err, ErrCorrupt))
	}
	var about unix.Stat_t
	if err := unix.Fstat(fd, &about); err != nil {
		return nil, fmt.Errorf("looking at a ring: %w", err)
	}
	if about.Size < controlSize || about.Size > controlSize+2*maxCapacity {
		return nil, fmt.Errorf("mapping a ring of %d bytes: %w", about.Size, ErrCorrupt)
	}
	memory, err := mapShared(fd, int(about.Size))
	if err != nil {
		return nil, err
	}
	capacity := binary.LittleEndian.Uint32(memory[capacityAt:])
	if string(memory[:len(magic)]) != magic || capacity == 0 || capacity&(capacity-1) != 0 || about.Size != controlSize+2*int64(capacity) {
		return nil, errors.Join(fmt.Errorf("mapping a ring of another layout: %w", ErrCorrupt), unix.Munmap(memory))
	}
	return newRing(memory, capacity, 1, spins), nil
}

func mapShared(fd, size int) ([]byte, error) {
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping a ring: %w", err)
	}
	return memory, nil
}

// newRing is a view of memory in which direction in is received.
func newRing(memory []byte, capacity uint32, in int, spins *Spins) *Ring {
	r := &Ring{memory: memory}
	r.In = Receiver{direction: newDirection(memory, capacity, in), ring: r, spins: spins, purses: NewPurses(&InRing)}
	r.Out = Sender{direction: newDirection(memory, capacity, 1-in), ring: r, spins: spins}
	r.In.arrived, r.Out.freed = r.In.Arrived, r.Out.isFreed
	return r
}

// direction is one stream: its words and its bytes in the shared memory.
type direction struct {
	written, readerSleeps, read, writerSleeps *atomic.Uint32
	data                                      []byte // as many as are a power of two
}

// newDirection is direction 0, from the client to the daemon, or 1.
func newDirection(memory []byte, capacity uint32, n int) direction {
	at := directionsAt + n*directionSize
	word := func(offset int) *atomic.Uint32 {
		// The memory is a mapping, page aligned, never moved, and longer than at plus
		// any offset; it stays mapped until Unmap.
		return (*atomic.Uint32)(unsafe.Pointer(&memory[at+offset]))
	}
	first := controlSize + n*int(capacity)
	return direction{
		word(writtenAt), word(readerSleepsAt), word(readAt), word(writerSleepsAt), memory[first : first+int(capacity) : first+int(capacity)],
	}
}

// Close makes the receiver end once it has given what is there, and the sender
// fail; both wake up. It says nothing to the other side.
func (r *Ring) Close() {
	r.closed.Store(true)
	r.locked(func() {
		rouse(r.In.readerSleeps)
		rouse(r.Out.writerSleeps)
	})
}

// SetReadDeadline bounds the receiver's waits, one that is under way too; the zero
// time is no bound.
func (r *Ring) SetReadDeadline(t time.Time) {
	at := int64(0)
	if !t.IsZero() {
		now := clock()
		at = max(now+min(int64(time.Until(t)), math.MaxInt64-now), 1) // 0 is none
	}
	r.In.deadline.Store(at)
	if r.In.waits.Load() { // not where it is the reader itself that sets it, before each of its waits
		r.locked(func() { rouse(r.In.readerSleeps) })
	}
}

// locked calls f unless the memory is not mapped any more.
func (r *Ring) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory != nil {
		f()
	}
}

// Unmap gives the memory back. In and Out may not be used any more.
func (r *Ring) Unmap() error {
	r.closed.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	memory := r.memory
	r.memory, r.In.direction, r.Out.direction = nil, direction{}, direction{}
	if memory == nil {
		return nil
	}
	if err := unix.Munmap(memory); err != nil {
		return fmt.Errorf("unmapping a ring: %w", err)
	}
	return nil
}

// wake wakes the other side if it sleeps on word, and costs a call of the kernel
// only then.
func wake(word *atomic.Uint32) {
	if word.Load() != 0 && word.Swap(0) != 0 {
		futex(word, futexWake, 1, nil)
	}
}

// rouse wakes this side, whatever the other has made of the word.
func rouse(word *atomic.Uint32) {
	word.Store(0)
	futex(word, futexWake, 1, nil)
}

// longestSleep bounds how long a side is deceived that sleeps on a word which the
// other has set when this side wanted to rouse itself.
const longestSleep = time.Second

// sleep waits while word is 1, for so long at most. It may return early.
func sleep(word *atomic.Uint32, most time.Duration) {
	t := unix.NsecToTimespec(int64(min(most, longestSleep)))
	futex(word, futexWait, 1, &t)
}

// yield lets another thread run that waits for this processor, and comes back at once
// where there is none. The runtime is not told: as a rule it is over in microseconds.
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// The operations of futex(2) between processes.
const (
	futexWait = 0
	futexWake = 1
)

// futex has no errors to tell: of a wake there are none, since the word is in mapped
// memory, and whoever returns from a wait for whatever reason looks again.
func futex(word *atomic.Uint32, operation, value uintptr, most *unix.Timespec) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), operation, value, uintptr(unsafe.Pointer(most)), 0, 0)
}

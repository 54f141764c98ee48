//go:build cgo && linux

package cuda

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/tensor"
)

func TestClasses(t *testing.T) {
	last := -1
	for n := 1; n < 1<<24; n += 1 + n/1000 {
		class, size := classOf(n)
		if size < n || n > 1<<minBits && size > n+n/4+1 || class < last || class >= classes {
			t.Fatalf("%d bytes are of class %d with %d after class %d", n, class, size, last)
		}
		if again, same := classOf(size); again != class || same != size {
			t.Fatalf("a member of class %d, %d bytes, is of class %d with %d", class, size, again, same)
		}
		last = class
	}
	if class, _ := classOf(1 << 46); class >= classes {
		t.Errorf("64 TiB are of class %d, of %d", class, classes)
	}
}

// context opens the fake and makes a context on its first device.
func context(t *testing.T) *Context {
	t.Helper()
	d, err := Open(cudatest.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	devices, err := d.Devices()
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Retain(devices[0], Sleep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestPoolKeepsAndTrims lends, takes back and lends again.
func TestPoolKeepsAndTrims(t *testing.T) {
	p := NewPool(context(t), Limits{})
	defer p.Close()
	m, err := p.Alloc(1000)
	if err != nil {
		t.Fatal(err)
	}
	at := m.At
	p.Free(m)
	if m, err = p.Alloc(900); err != nil || m.At != at {
		t.Errorf("memory that came back is not lent again: %v, %v", m, err)
	}
	p.Free(m)
	b, err := p.Pinned(5000)
	if err != nil {
		t.Fatal(err)
	}
	if !Pinned(b) || !b.Pinned() || b.Len() != 5000 {
		t.Errorf("a pinned buffer: the pool's %v, pinned %v, %d bytes", Pinned(b), b.Pinned(), b.Len())
	}
	if device, pinned := p.Usage(); device.Kept != 1024 || device.InUse != 0 || device.Peak != 1024 || pinned.InUse != 5120 {
		t.Errorf("usage %+v %+v", device, pinned)
	}
	memory := &b.Bytes()[0]
	b.Release()
	if b, err = p.Pinned(5100); err != nil || &b.Bytes()[0] != memory || b.Len() != 5100 {
		t.Errorf("a buffer that came back is not lent again: %v", err)
	}
	b.Release()
	if got := p.Trim(); got != 1024+5120 {
		t.Errorf("trimming freed %d bytes", got)
	}
	ordinary, err := tensor.Alloc(10)
	if err != nil {
		t.Fatal(err)
	}
	defer ordinary.Release()
	if Pinned(ordinary) {
		t.Error("the pool claims a buffer that is not its own")
	}
	if got := testing.AllocsPerRun(100, func() {
		m, err := p.Alloc(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		p.Free(m)
		b, err := p.Pinned(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
	}); got != 0 {
		t.Errorf("lending what is kept allocates %v times", got)
	}
}

// TestPoolLimits refuses what is beyond the limits, of the configuration and of the device, in a sentence, and goes on.
func TestPoolLimits(t *testing.T) {
	t.Setenv("FAKE_CUDA_MEMORY", "4194304")
	p := NewPool(context(t), Limits{Device: 2 << 20, Pinned: 1 << 20})
	defer p.Close()
	if _, err := p.Alloc(3 << 20); !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "of the 2097152 that the configuration allows") {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, err := p.Pinned(3 << 20); !errors.Is(err, ErrMemory) {
		t.Errorf("beyond the limit of pinned memory: %v", err)
	}
	open := NewPool(p.c, Limits{})
	defer open.Close()
	if _, err := open.Alloc(5 << 20); !errors.Is(err, ErrMemory) || errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "CUDA_ERROR_OUT_OF_MEMORY") {
		t.Errorf("beyond the device: %v", err)
	}
	// What is kept is given up for what does not fit otherwise.
	m, err := open.Alloc(3 << 20)
	if err != nil {
		t.Fatal(err)
	}
	open.Free(m)
	if m, err = open.Alloc(2 << 20); err != nil {
		t.Fatalf("with 3 MiB kept of 4: %v", err)
	}
	open.Free(m)
	if device, pinned := open.Usage(); device.InUse != 0 || pinned.InUse != 0 {
		t.Errorf("after all came back %d and %d bytes are in use", device.InUse, pinned.InUse)
	}
}

// TestBufferOutlivesContext releases a pinned buffer after pool and context are gone, as a server may that is still sending it.
func TestBufferOutlivesContext(t *testing.T) {
	d, err := Open(cudatest.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	devices, err := d.Devices()
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Retain(devices[0], Spin)
	if err != nil {
		t.Fatal(err)
	}
	before := Live()
	p := NewPool(c, Limits{})
	b, err := p.Pinned(100)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := c.Release(); err != nil {
		t.Error(err)
	}
	copy(b.Bytes(), "still there")
	b.Release()
	if now := Live(); now != before-1 {
		t.Errorf("%d things of the driver's are left", now-before+1)
	}
	if _, err := p.Pinned(100); err == nil || !strings.Contains(err.Error(), "the pool is closed") {
		t.Errorf("a closed pool lends: %v", err)
	}
}

// TestPoolHammer has many goroutines take and give, and wants the books to close.
func TestPoolHammer(t *testing.T) {
	p := NewPool(context(t), Limits{Device: 64 << 20, Pinned: 64 << 20})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 300 {
				n := 1 + random.IntN(100_000)
				m, err := p.Alloc(n)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := p.Pinned(n)
				if err != nil {
					t.Error(err)
					p.Free(m)
					return
				}
				b.Bytes()[n-1] = byte(i)
				if random.IntN(20) == 0 {
					p.Trim()
				}
				b.Release()
				p.Free(m)
			}
		})
	}
	all.Wait()
	p.Close()
	if device, pinned := p.Usage(); device.InUse != 0 || pinned.InUse != 0 || device.Kept != 0 || pinned.Kept != 0 {
		t.Errorf("after closing: %+v %+v", device, pinned)
	}
}

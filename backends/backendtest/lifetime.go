package backendtest

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/tensor"
)

// opensCancelled ends the context before Open, and then each time that Open looks at it.
func opensCancelled(t *testing.T, c Case) {
	if looks := OpensCancelled(t, c.Backend, c.Dir, Options()); looks == 0 {
		t.Error("Open ignores that its context was cancelled")
	}
}

// OpensCancelled has the context of Open end the first time that Open looks at it, then the second time, and so on, until Open
// looks no more and succeeds. Each time before it must fail with the context's error and hold nothing. It tells how often Open
// looked.
func OpensCancelled(t *testing.T, b engine.Backend, dir string, o engine.OpenOptions) (looks int) {
	t.Helper()
	a := Artifact(t, dir)
	for ; ; looks++ {
		before := takeStock(t)
		m, err := b.Open(&ending{t.Context(), looks}, a, o)
		if err == nil {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			return looks
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Open on a context that is cancelled after %d looks fails with %v", looks, err)
		}
		before.compare(t, 1)
	}
}

// ending is a context that has ended when it was looked at so often. It is looked at by one goroutine.
type ending struct {
	context.Context
	looks int
}

// Err implements context.Context.
func (e *ending) Err() error {
	if e.looks == 0 {
		return context.Canceled
	}
	e.looks--
	return nil
}

func givesBack(t *testing.T, c Case) {
	cycles := c.Cycles
	if cycles == 0 {
		cycles = 1000
		if testing.Short() {
			cycles = 100
		}
	}
	a := Artifact(t, c.Dir)
	cycle := func() {
		m, err := c.Backend.Open(t.Context(), a, Options())
		if err != nil {
			t.Fatal(err)
		}
		r := NewRunner(t, m)
		r.Run(c.Input[:r.InRow])
		r.Close()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cycle() // what a process takes once is no leak
	before := takeStock(t)
	for range cycles {
		cycle()
	}
	before.compare(t, 0)
}

// stock is what a process holds that a backend could forget to give back.
type stock struct {
	buffers   int64
	libraries int
	files     int
}

func takeStock(t *testing.T) stock {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatalf("counting open files: %v", err)
	}
	return stock{buffers: tensor.MemoryUsage().Live, libraries: dl.OpenCount(), files: len(fds)}
}

// compare fails the test when the process holds more now, but for slack files
// that the test itself has opened since.
func (s stock) compare(t *testing.T, slack int) {
	t.Helper()
	now := takeStock(t)
	if now.buffers != s.buffers || now.libraries != s.libraries || now.files > s.files+slack {
		t.Errorf("before there were %d buffers, %d libraries and %d files open, now %d, %d and %d",
			s.buffers, s.libraries, s.files, now.buffers, now.libraries, now.files)
	}
}

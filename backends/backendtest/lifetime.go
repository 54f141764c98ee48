package backendtest

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/tensor"
)

func opensCancelled(t *testing.T, c Case) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := takeStock(t)
	m, err := c.Backend.Open(ctx, Artifact(t, c.Dir), Options())
	if err == nil {
		t.Error("Open ignores that its context was cancelled; the model was closed with", m.Close())
		return
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Open on a cancelled context fails with %v", err)
	}
	before.compare(t, 1)
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

//go:build cgo && linux

package tvm_test

import (
	"sync"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/tvm"
)

// TestStackIsAligned: functions and their tasks find the stack at the start of a cache line, whatever thread calls.
func TestStackIsAligned(t *testing.T) {
	m := backendtest.Open(t, tvm.New(), specimen(t, []string{"stack"}))
	for _, n := range threads {
		run, done, err := tvm.Threaded(m, n.threads)
		if err != nil {
			t.Fatal(err)
		}
		in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
		for range 20 {
			var wg sync.WaitGroup
			wg.Go(func() { // a goroutine each, and mostly another thread
				if err := run(in, out, n.tasks); err != nil {
					t.Errorf("%+v: %v", n, err)
				}
			})
			wg.Wait()
			for i, v := range values[float32](t, out[0]) {
				if v != 0 {
					t.Fatalf("%+v: value %d was computed %v bytes above the start of a line", n, i, v)
				}
			}
		}
		if err := done(); err != nil {
			t.Error(err)
		}
	}
}

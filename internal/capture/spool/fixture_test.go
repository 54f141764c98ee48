package spool

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envVictim); dir != "" {
		victim(dir)
	}
	if dir := os.Getenv(envTraced); dir != "" {
		if err := traced(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testkit.VerifyNoLeaks(m)
}

// sample is an entry that says its number.
func sample(n int) *capture.Entry {
	return capture.Single(&capture.Record{
		Inference: fmt.Sprintf("s%d", n), Time: time.Unix(1_700_000_000, int64(n)), Model: "fraud", Version: "3", Kind: capture.Sample, Why: capture.ByRate, Rows: 1,
		Inputs:  []capture.Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{1, 3}, Data: make([]byte, 12)}},
		Outputs: []capture.Tensor{{Name: "output", DType: tensor.FP32, Shape: []int64{1, 1}, Data: []byte{0, 0, 192, 127}}}, // NaN
	})
}

// explicit is an entry whose id is remembered.
func explicit(n int) *capture.Entry {
	e := sample(n)
	e.Kind, e.Why = capture.Explicit, 0
	e.Parts[0].Inference = fmt.Sprintf("e%d", n)
	return e
}

func open(t testing.TB, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // what matters is checked where it is closed
	return s
}

// readAll reads everything that waits, the newest segment included.
func (s *Spool) readAll(bad func(error)) (all []capture.Record) {
	s.mu.Lock()
	segments := append([]*segment(nil), s.segments...)
	s.mu.Unlock()
	for _, g := range segments {
		s.readRecords(g, func(b *Batch, err error) bool {
			if err != nil {
				bad(err)
			}
			if b != nil {
				all = append(all, b.Records...)
			}
			return true
		})
	}
	return all
}

// adds fails unless the accounting identity holds.
func (st Stats) adds(t testing.TB) {
	t.Helper()
	if sum := st.Uploaded + st.OnDisk + st.Dropped.Total() + st.Quarantined; sum != st.Accepted {
		t.Fatalf("%d records were accepted, and %d are accounted for: %+v", st.Accepted, sum, st)
	}
}

type captureRecord = capture.Record

const (
	waiting = capture.Waiting
	left    = capture.Left
)

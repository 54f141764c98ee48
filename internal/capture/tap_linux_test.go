package capture_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/tensor"
)

// BenchmarkTap is what a run costs of which a tenth or all is captured, by the processors' time of the process, beside one without a tap.
func BenchmarkTap(b *testing.B) {
	const rows = 10 // of each part: 120 bytes in, 40 out
	for _, parts := range []int{1, 128} {
		for _, rate := range []float64{0, 0.1, 1} {
			b.Run(fmt.Sprintf("parts=%d/rate=%g", parts, rate), func(b *testing.B) {
				tap := capture.NewTap(capture.TapOptions{Default: capture.Sampling{Rate: rate}})
				e := newEngine(b, tap, enginetest.Script{Properties: inline})
				s := openSpool(b, spool.Options{MaxBytes: 64 << 20})
				tap.Start(s)
				m, err := e.Acquire("sum")
				if err != nil {
					b.Fatal(err)
				}
				defer m.Release()
				values := make([]float32, 3*parts*rows)
				before := processors(b)
				for b.Loop() {
					r, err := m.NewRequest(parts * rows)
					if err != nil {
						b.Fatal(err)
					}
					copy(r.Inputs[0].Bytes(), tensor.AsBytes(values))
					if m.Tapped() {
						r.SetOrigin([16]byte{1})
						for i := range r.AddParts(parts) {
							r.Parts()[i] = engine.Part{Number: uint64(i), Rows: rows}
						}
					}
					if err := r.Predict(b.Context()); err != nil {
						b.Fatal(err)
					}
					r.Release()
				}
				tap.Close()
				if err := s.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(processors(b)-before)/float64(b.N*parts), "cpu-ns/part")
			})
		}
	}
}

// processors is the processors' time of this process, in nanoseconds.
func processors(tb testing.TB) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

package roofline

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// Wider registers need fewer operations and no more bytes, and more trees more of both.
func TestCounts(t *testing.T) {
	t.Parallel()
	small, large := shape{50, 6, 30}, shape{500, 6, 30}
	for name, count := range map[string]func(shape, int) (float64, float64){"row": shape.rowKernel, "slice": shape.sliceKernel} {
		narrowBytes, narrow := count(large, 32)
		wideBytes, wide := count(large, 64)
		if !(wide < narrow) || wideBytes > narrowBytes {
			t.Errorf("%s: %v bytes and %v operations with 64, %v and %v with 32", name, wideBytes, wide, narrowBytes, narrow)
		}
		fewBytes, few := count(small, 64)
		if !(few < wide) || !(fewBytes < wideBytes) {
			t.Errorf("%s: 50 trees take %v bytes and %v operations, 500 take %v and %v", name, fewBytes, few, wideBytes, wide)
		}
	}
	// 500 trees: a block of 16 bytes and a line of 64 each.
	if got, _ := large.rowKernel(64); math.Abs(got-(500*80+30*132)) > 1e-9 {
		t.Errorf("the row kernel reads %v bytes", got)
	}
}

// A roofline is read as it was written, and what is none is refused.
func TestReadBack(t *testing.T) {
	t.Parallel()
	r := &Report{Schema: Schema, Version: Version, Processor: "p", Bandwidth: []Bandwidth{{"L1", 1024, 1e9}}, Operations: []Operation{{"x", 256, 2e9}}, Kernels: []Kernel{{Kernel: "k", Rows: 1, NSPerRow: 1, BytesPerRow: 4, OperationsPerRow: 1}}}
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	back, err := Parse(text.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	// A quarter of an operation a byte at 1e9 bytes a second: the roof is 2.5e8, and the kernel does 1e9.
	if got := back.Share(&back.Kernels[0]); math.Abs(got-4) > 1e-9 || back.Peak() != 2e9 || back.PeakName() != "x" {
		t.Errorf("share %v of the roof, peak %v", got, back.Peak())
	}
	for _, bad := range []string{"", "{}", `{"schema":"picket.bench.result","version":1}`, strings.Replace(text.String(), `"version": 1`, `"version": 2`, 1)} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

package tensor_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/picket-ml/picket/tensor"
)

func TestShapeChecksOverflow(t *testing.T) {
	for _, c := range []struct {
		dims     []int64
		elements int64
		says     string
	}{
		{nil, 1, ""},
		{[]int64{0}, 0, ""},
		{[]int64{2, 3, 4}, 24, ""},
		{[]int64{math.MaxInt64}, math.MaxInt64, ""},
		{[]int64{1 << 31, 1 << 31}, 1 << 62, ""},
		{[]int64{1, 1, 1, 1, 1, 1, 1, 5}, 5, ""},
		{[]int64{-1}, 0, "negative"},
		{[]int64{3, math.MinInt64}, 0, "negative"},
		{[]int64{1 << 32, 1 << 32}, 0, "more elements"},
		{[]int64{math.MaxInt64, 2}, 0, "more elements"},
		{[]int64{0, math.MaxInt64, math.MaxInt64}, 0, "more elements"},
		{[]int64{1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, "limit is 8"},
	} {
		s, err := tensor.NewShape(c.dims...)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v: error %v, want one that says %q", c.dims, err, c.says)
			}
			continue
		}
		if err != nil || s.Elements() != c.elements || s.Rank() != len(c.dims) {
			t.Errorf("%v: %d elements, rank %d, %v", c.dims, s.Elements(), s.Rank(), err)
		}
	}
	if _, err := tensor.MustShape(math.MaxInt64 / 2).ByteSize(tensor.FP32); err == nil {
		t.Error("a size that overflows was given")
	}
	if _, err := tensor.MustShape(1).ByteSize(tensor.Bytes); err == nil {
		t.Error("BYTES was given a size")
	}
	if (tensor.Shape{}) != tensor.MustShape() {
		t.Error("the zero Shape is not a scalar's")
	}
}

func TestDTypeNames(t *testing.T) {
	for d := tensor.Bool; d <= tensor.Bytes; d++ {
		if got, err := tensor.ParseDType(d.String()); got != d || err != nil {
			t.Errorf("%s parses as %s, %v", d, got, err)
		}
	}
	for numpy, want := range map[string]tensor.DType{"float32": tensor.FP32, "uint8": tensor.Uint8, "bfloat16": tensor.BF16} {
		if got, err := tensor.ParseDType(numpy); got != want || err != nil {
			t.Errorf("%s parses as %s, %v", numpy, got, err)
		}
	}
	for _, bad := range []string{"", "fp32", "INVALID", "FLOAT"} {
		if got, err := tensor.ParseDType(bad); err == nil {
			t.Errorf("%q parses as %s", bad, got)
		}
	}
}

func TestBuffersAreAlignedAndApart(t *testing.T) {
	var buffers []*tensor.Buffer
	for _, n := range []int{0, 1, 127, 128, 129, 4096, 8192, 8193, 1 << 20, 1<<26 + 1} {
		for range 3 {
			b, err := tensor.Alloc(n)
			if err != nil {
				t.Fatal(err)
			}
			if b.Len() != n || len(b.Bytes()) != n || cap(b.Bytes()) != n {
				t.Errorf("asked for %d bytes, got %d", n, b.Len())
			}
			if n > 0 {
				x, err := tensor.In("x", tensor.Uint8, tensor.MustShape(int64(n)), b, 0)
				if err != nil {
					t.Fatal(err)
				}
				if at := uintptr(tensor.Pointer(x)); at%tensor.Alignment != 0 {
					t.Errorf("a buffer of %d bytes starts at %#x", n, at)
				}
				b.Bytes()[0], b.Bytes()[n-1] = byte(len(buffers)), byte(len(buffers))
			}
			buffers = append(buffers, b)
		}
	}
	for i, b := range buffers {
		if n := b.Len(); n > 0 && (b.Bytes()[0] != byte(i) || b.Bytes()[n-1] != byte(i)) {
			t.Errorf("buffer %d of %d bytes was overwritten by another", i, n)
		}
		b.Release()
	}
	for _, n := range []int{-1, math.MinInt, math.MaxInt, 1<<40 + 1} {
		if b, err := tensor.Alloc(n); err == nil {
			t.Errorf("%d bytes were given", n)
			b.Release()
		}
	}
}

func TestBufferCountsReferences(t *testing.T) {
	released := 0
	b := tensor.Wrap(make([]byte, 8), func() { released++ })
	b.Retain()
	b.Release()
	if released != 0 {
		t.Error("released while a reference was held")
	}
	b.Release()
	if released != 1 {
		t.Errorf("released %d times", released)
	}
	mustPanic(t, "a second last release", b.Release)
	(*tensor.Buffer)(nil).Release()
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if p, ok := recover().(string); !ok || !strings.HasPrefix(p, "BUG: ") {
			t.Errorf("%s: recovered %v", what, p)
		}
	}()
	f()
}

func TestReuseDoesNotGrow(t *testing.T) {
	for _, n := range []int{100, 5000, 100_000, 1 << 27} {
		warm, err := tensor.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		warm.Release()
		before := tensor.MemoryUsage().Mapped
		for range 1000 {
			b, err := tensor.Alloc(n)
			if err != nil {
				t.Fatal(err)
			}
			b.Release()
		}
		if after := tensor.MemoryUsage().Mapped; after != before {
			t.Errorf("%d bytes a thousand times: mapped %d, before %d", n, after, before)
		}
	}
	// A burst of large buffers gives most of its memory back.
	var burst []*tensor.Buffer
	for range 40 {
		b, err := tensor.Alloc(16 << 20)
		if err != nil {
			t.Fatal(err)
		}
		burst = append(burst, b)
	}
	during := tensor.MemoryUsage().Mapped
	for _, b := range burst {
		b.Release()
	}
	if after := tensor.MemoryUsage().Mapped; during-after < 36*16<<20 {
		t.Errorf("a burst of 640 MiB gave %d MiB back", (during-after)>>20)
	}
}

func TestBufferHammer(t *testing.T) {
	var wg sync.WaitGroup
	for caller := range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(caller)))
			for range 500 {
				b, err := tensor.Alloc(1 + random.IntN(40_000))
				if err != nil {
					t.Error(err)
					return
				}
				mark := byte(random.IntN(256))
				for i := range b.Bytes() {
					b.Bytes()[i] = mark
				}
				b.Retain()
				runtime.Gosched()
				for _, v := range b.Bytes() {
					if v != mark {
						t.Error("another goroutine wrote to this buffer")
						return
					}
				}
				b.Release()
				b.Release()
			}
		})
	}
	wg.Wait()
}

func TestPin(t *testing.T) {
	for _, n := range []int{100, 100_000, 1 << 27} {
		b, err := tensor.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		before := tensor.MemoryUsage().Pinned
		if err := b.Pin(); err != nil {
			// The limit of this machine: then it must say so.
			if !strings.Contains(err.Error(), "RLIMIT_MEMLOCK") || b.Pinned() {
				t.Errorf("pinning %d bytes: %v, pinned %v", n, err, b.Pinned())
			}
		} else if !b.Pinned() || tensor.MemoryUsage().Pinned < before {
			t.Errorf("%d bytes: pinned %v, %d bytes in all after %d", n, b.Pinned(), tensor.MemoryUsage().Pinned, before)
		}
		if err := b.Pin(); err != nil && b.Pinned() {
			t.Errorf("pinning %d bytes again: %v", n, err)
		}
		b.Release()
	}
	wrapped := tensor.Wrap(make([]byte, 10), nil)
	defer wrapped.Release()
	if err := wrapped.Pin(); err == nil || wrapped.Pinned() {
		t.Errorf("somebody else's memory was pinned: %v", err)
	}
}

func TestViews(t *testing.T) {
	x, err := tensor.New("x", tensor.FP32, tensor.MustShape(4, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Buffer.Release()
	v, err := tensor.View[float32](x)
	if err != nil || len(v) != 12 {
		t.Fatalf("%d elements, %v", len(v), err)
	}
	for i := range v {
		v[i] = float32(i)
	}
	part := x.Rows(1, 3)
	pv, err := tensor.View[float32](part)
	if err != nil || len(pv) != 6 || pv[0] != 3 || pv[5] != 8 || part.Shape != tensor.MustShape(2, 3) {
		t.Errorf("rows 1 to 3 are %v of shape %s, %v", pv, part.Shape, err)
	}
	if deeper := part.Rows(1, 2); deeper.Size() != 12 || deeper.Offset != 24 {
		t.Errorf("a row of a part has %d bytes at %d", deeper.Size(), deeper.Offset)
	}
	if none := x.Rows(4, 4); none.Size() != 0 {
		t.Errorf("no rows have %d bytes", none.Size())
	}
	mustPanic(t, "rows that are not there", func() { x.Rows(3, 5) })
	if _, err := tensor.View[float64](x); err == nil {
		t.Error("FP32 was seen as float64")
	}
	if _, err := tensor.View[uint16](x); err == nil {
		t.Error("FP32 was seen as uint16")
	}
	half, err := tensor.In("h", tensor.FP16, tensor.MustShape(3), x.Buffer, 0)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := tensor.View[uint16](half); err != nil || len(h) != 3 {
		t.Errorf("FP16 as uint16: %v, %v", h, err)
	}
	odd, err := tensor.In("odd", tensor.FP32, tensor.MustShape(2), x.Buffer, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tensor.View[float32](odd); err == nil {
		t.Error("an unaligned view was given")
	}
	for _, at := range []int{-1, 45, 49, math.MaxInt} {
		if _, err := tensor.In("over", tensor.FP32, tensor.MustShape(1), x.Buffer, at); err == nil {
			t.Errorf("a tensor was placed at %d of 48 bytes", at)
		}
	}
}

func TestAllocDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() {
		b, err := tensor.Alloc(1000)
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
	}); n != 0 {
		t.Errorf("%v allocations for a recycled buffer", n)
	}
}

//go:build cgo && linux

package native

// #include "peaks.h"
import "C"

import (
	"fmt"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// peakTime is how long a peak is looked for.
const peakTime = 150 * time.Millisecond

// VectorBytes is the width of the widest registers of this processor that the peaks are measured with, at most most bytes.
func VectorBytes(most int) int { return int(C.peaks_width(C.int(most))) }

// ReadPeak is how many bytes a second one core reads of an area of that size, again and again: the best of several tries, as what
// else the machine does makes each only slower. The size is rounded down to whole kilobytes.
func ReadPeak(size int64, width int) (float64, error) {
	size &^= 1023
	if size <= 0 {
		return 0, fmt.Errorf("reading an area of %d bytes: it is too small", size)
	}
	area, err := tensor.New("area", tensor.Uint8, tensor.MustShape(size))
	if err != nil {
		return 0, err
	}
	defer area.Buffer.Release()
	clear(area.Bytes()) // so that every page is there
	read := func(times int64) time.Duration {
		return time.Duration(C.peaks_read(tensor.Pointer(area), C.int64_t(size), C.int64_t(times), C.int(width)))
	}
	return float64(size) * best(read), nil
}

// ComparePeak is how many comparisons of two registers one core makes a second, byte by byte.
func ComparePeak(width int) float64 {
	const each = 16 // comparisons in a turn
	return each * best(func(times int64) time.Duration { return time.Duration(C.peaks_compare(C.int64_t(times), C.int(width))) })
}

// best is the highest rate of turns.
func best(run func(times int64) time.Duration) float64 {
	times := int64(1)
	for run(times) < peakTime/20 {
		times *= 2
	}
	highest := 0.0
	for start := time.Now(); time.Since(start) < peakTime; {
		if took := run(times); took > 0 {
			highest = max(highest, float64(times)/took.Seconds())
		}
	}
	return highest
}

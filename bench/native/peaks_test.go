//go:build cgo && linux

package native

import (
	"math"
	"testing"
)

// The loops read what they are told to and come to an end, with registers of every width that there is.
func TestPeaks(t *testing.T) {
	t.Parallel()
	for _, most := range []int{16, 32, 64} {
		width := VectorBytes(most)
		if width < 16 || width > most {
			t.Errorf("registers of %d bytes, of %d at most", width, most)
		}
		rate, err := ReadPeak(8192, width)
		if err != nil || !(rate > 0) || math.IsInf(rate, 0) {
			t.Errorf("%d bytes a second, %v", int64(rate), err)
		}
		if rate := ComparePeak(width); !(rate > 0) || math.IsInf(rate, 0) {
			t.Errorf("%v comparisons a second", rate)
		}
	}
	if _, err := ReadPeak(1000, 16); err == nil {
		t.Error("an area of no kilobyte was read")
	}
}

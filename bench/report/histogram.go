package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram holds: from one nanosecond to an hour, to three digits.
const (
	longest = int64(time.Hour)
	digits  = 3
	// A histogram of every value that there can be stays below this, encoded.
	maxEncoded = 1 << 20
)

// Histogram is an HDR histogram of nanoseconds. In JSON it is a string: the compressed encoding V2 of HdrHistogram in base64,
// which the tools of that project read.
type Histogram struct{ hdrhistogram.Histogram }

// NewHistogram makes an empty one.
func NewHistogram() *Histogram {
	return &Histogram{*hdrhistogram.New(1, longest, digits)}
}

// Record counts one time. What is longer than an hour counts as an hour, what is shorter than a nanosecond as that.
func (h *Histogram) Record(d time.Duration) {
	// It fails only for values out of the range.
	_ = h.RecordValue(min(max(int64(d), 1), longest))
}

// Add counts all that other has.
func (h *Histogram) Add(other *Histogram) { h.Merge(&other.Histogram) }

// Quantile is the time that a share q of all does not exceed, 0 for an empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.TotalCount() == 0 {
		return 0
	}
	return time.Duration(h.ValueAtQuantile(100 * q))
}

// MarshalJSON writes the encoded form.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, fmt.Errorf("encoding a histogram: %w", err)
	}
	return json.Marshal(string(text))
}

// UnmarshalJSON reads the encoded form.
func (h *Histogram) UnmarshalJSON(data []byte) (err error) {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("a histogram is a string: %w", err)
	}
	if len(text) > maxEncoded {
		return errors.New("a histogram is longer than any can be")
	}
	defer func() {
		if recover() != nil { // the library indexes with what it reads
			err = errors.New("a histogram is damaged")
		}
	}()
	read, err := hdrhistogram.Decode([]byte(text))
	if err != nil {
		return fmt.Errorf("reading a histogram: %w", err)
	}
	if read.LowestTrackableValue() != 1 || read.HighestTrackableValue() != longest || read.SignificantFigures() != digits {
		return errors.New("a histogram is not of one nanosecond to an hour with three digits")
	}
	h.Histogram = *read
	return nil
}

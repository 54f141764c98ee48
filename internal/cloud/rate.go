package cloud

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/time/rate"
)

// Rate is bytes a second. As text it has a unit of bits (kbit/s, Mbit/s, Gbit/s) or of
// bytes (kB/s, MB/s, GB/s, KiB/s, MiB/s, GiB/s); empty text is 0, no limit.
type Rate int64

// minRate is where a limit is a mistake rather than a limit.
const minRate Rate = 1000

var rateUnits = []struct {
	suffix string
	bytes  float64
}{
	{"kbit/s", 1e3 / 8}, {"Mbit/s", 1e6 / 8}, {"Gbit/s", 1e9 / 8},
	{"KiB/s", 1 << 10}, {"MiB/s", 1 << 20}, {"GiB/s", 1 << 30},
	{"kB/s", 1e3}, {"MB/s", 1e6}, {"GB/s", 1e9},
}

// UnmarshalText reads a number with a unit. After an error r is what it was.
func (r *Rate) UnmarshalText(text []byte) error {
	value := strings.TrimSpace(string(text))
	if value == "" || value == "0" {
		*r = 0
		return nil
	}
	for _, unit := range rateUnits {
		digits, found := strings.CutSuffix(value, unit.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || n < 0 || !(n*unit.bytes < math.MaxInt64) {
			break
		}
		*r = Rate(math.Round(n * unit.bytes))
		return nil
	}
	return fmt.Errorf("%q is no rate: write a number with a unit, such as 100Mbit/s or 20MiB/s", shortened(value))
}

// MarshalText is the inverse of UnmarshalText.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String is the shortest whole number with a unit that UnmarshalText reads as r.
func (r Rate) String() string {
	if r == 0 {
		return ""
	}
	best := strconv.FormatFloat(float64(r)*8/1e3, 'f', -1, 64) + "kbit/s"
	for _, unit := range rateUnits {
		if n := float64(r) / unit.bytes; n == math.Trunc(n) {
			if text := strconv.FormatFloat(n, 'f', -1, 64) + unit.suffix; len(text) < len(best) {
				best = text
			}
		}
	}
	return best
}

// Set and Type make a Rate a flag.
func (r *Rate) Set(text string) error { return r.UnmarshalText([]byte(text)) }

// Type is what the help calls it.
func (r *Rate) Type() string { return "RATE" }

// Limit makes the limiter for a rate; nil for no limit. It lets a tenth of a second's
// bytes through at once.
func (r Rate) Limit() *rate.Limiter {
	if r <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r), int(max(r/10, minBurst)))
}

// minBurst is what fits one read or write of a connection.
const minBurst = 16 << 10

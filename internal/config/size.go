package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. As text it has a unit of 1024 (KiB, MiB, GiB) or of
// 1000 (kB, MB, GB), or B or none for bytes.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	// Longer suffixes first: every one of them ends in B.
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"B", 1}, {"", 1},
}

// ParseSize reads a whole, non-negative number with a unit, such as "80MiB".
func ParseSize(text string) (Size, error) {
	for _, unit := range sizeUnits {
		digits, found := strings.CutSuffix(text, unit.suffix)
		if !found {
			continue
		}
		digits = strings.TrimRight(digits, " ")
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || n > uint64(math.MaxInt64/unit.bytes) {
			break
		}
		return Size(int64(n) * unit.bytes), nil
	}
	return 0, fmt.Errorf("%s is not a size: write a whole number with a unit, such as 80MiB", quote(text))
}

// String is the shortest exact form that ParseSize reads.
func (s Size) String() string {
	for i := 2; i >= 0; i-- {
		unit := sizeUnits[i]
		if s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

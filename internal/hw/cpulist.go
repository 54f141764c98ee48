package hw

import (
	"fmt"
	"strconv"
	"strings"
)

// maxCPU is the highest CPU number believed; Linux is built for at most 8192.
const maxCPU = 1<<16 - 1

// ParseCPUs reads the kernel's list form, "0-3,8,10-11", in which ranges
// ascend and do not overlap. An empty list is no CPUs.
func ParseCPUs(list string) ([]int, error) {
	list = strings.TrimSpace(list)
	if list == "" {
		return nil, nil
	}
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := parseCPU(from)
		if err != nil {
			return nil, fmt.Errorf("reading CPU list %q: %w", list, err)
		}
		last := first
		if isRange {
			if last, err = parseCPU(to); err != nil {
				return nil, fmt.Errorf("reading CPU list %q: %w", list, err)
			}
		}
		if last < first || len(cpus) > 0 && first <= cpus[len(cpus)-1] {
			return nil, fmt.Errorf("reading CPU list %q: %q does not ascend", list, part)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

func parseCPU(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > maxCPU {
		return 0, fmt.Errorf("%q is not a CPU number from 0 to %d", s, maxCPU)
	}
	return int(n), nil
}

// FormatCPUs writes ascending CPU numbers in the kernel's list form.
func FormatCPUs(cpus []int) string {
	var b strings.Builder
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(cpus[i]))
		if j > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(cpus[j]))
		}
		i = j + 1
	}
	return b.String()
}

package hw

import (
	"fmt"
	"slices"
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

// Some reads a list in the kernel's form of CPUs that are among those which the process may use: nobody gets what was kept from it. The error is a
// part of a sentence on where the list stands.
func (c *CPU) Some(list string) ([]int, error) {
	cpus, err := ParseCPUs(list)
	if err == nil && len(cpus) == 0 {
		err = fmt.Errorf("%q names no CPU", list)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; write ascending numbers and ranges, such as 0-3,6", err)
	}
	if len(c.Affinity) == 0 {
		return nil, fmt.Errorf("%s is asked for, but which CPUs this process may use is not known: %s", list, c.AffinityReason)
	}
	for _, cpu := range cpus {
		if !slices.Contains(c.Affinity, cpu) {
			return nil, fmt.Errorf("%s is asked for, this process may use the CPUs %s only", list, FormatCPUs(c.Affinity))
		}
	}
	return cpus, nil
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

package hw

import (
	"bytes"
	"io/fs"
	"math"
	"sort"
	"strconv"
	"strings"
)

func detectMemory(p platform) Memory {
	m := Memory{
		Cgroup:               memoryLimit(p.root),
		Memlock:              p.memlock(),
		HugePages:            readHugePages(p.root),
		TransparentHugePages: readTransparentHugePages(p.root),
	}
	text, err := readFile(p.root, "proc/meminfo")
	if err != nil {
		m.Reason = "the amount of memory is unknown: /proc/meminfo cannot be read"
		return m
	}
	info := parseMeminfo(text, "")
	m.Total, m.Available = info["MemTotal"], info["MemAvailable"]
	if m.Total == 0 {
		m.Reason = "the amount of memory is unknown: /proc/meminfo has no MemTotal"
	}
	return m
}

// parseMeminfo reads "Name:  123 kB" lines that begin with prefix into bytes
// by name. Lines of another form, and amounts beyond 64 bits, are left out.
func parseMeminfo(text []byte, prefix string) map[string]uint64 {
	info := make(map[string]uint64)
	for line := range bytes.Lines(text) {
		rest, ok := strings.CutPrefix(string(line), prefix)
		if !ok {
			continue
		}
		name, value, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		number, isKB := strings.CutSuffix(strings.TrimSpace(value), " kB")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || !isKB || n > math.MaxUint64/1024 {
			continue
		}
		info[name] = n * 1024
	}
	return info
}

func readHugePages(root fs.FS) []HugePages {
	const dir = "sys/kernel/mm/hugepages"
	// Absent on kernels without huge pages: then there are no pools.
	entries, _ := fs.ReadDir(root, dir)
	var pools []HugePages
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "hugepages-")
		if !ok {
			continue
		}
		number, ok = strings.CutSuffix(number, "kB")
		if !ok {
			continue
		}
		kb, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			continue
		}
		total, err := readInt(root, dir+"/"+e.Name()+"/nr_hugepages")
		if err != nil {
			continue
		}
		free, err := readInt(root, dir+"/"+e.Name()+"/free_hugepages")
		if err != nil {
			continue
		}
		pools = append(pools, HugePages{Size: kb * 1024, Total: int(total), Free: int(free)})
	}
	sort.Slice(pools, func(i, j int) bool { return pools[i].Size < pools[j].Size })
	return pools
}

// readTransparentHugePages returns the word in brackets of "always [madvise]
// never", or "".
func readTransparentHugePages(root fs.FS) string {
	line, err := readLine(root, "sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(line, "[")
	word, _, ok := strings.Cut(rest, "]")
	if !ok {
		return ""
	}
	return word
}

package hw

import (
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
)

// readCaches lists the caches one CPU sees, or says why none is listed.
func readCaches(root fs.FS, cpu int) ([]Cache, string) {
	dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/cache", cpu)
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil, fmt.Sprintf("the kernel does not describe the caches: /%s cannot be read", dir)
	}
	var caches []Cache
	reason := ""
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "index") {
			continue
		}
		c, err := readCache(root, dir+"/"+e.Name())
		if err != nil {
			reason = "a cache is left out: " + err.Error()
			continue
		}
		caches = append(caches, c)
	}
	if len(caches) == 0 && reason == "" {
		reason = fmt.Sprintf("the kernel lists no cache in /%s", dir)
	}
	sort.Slice(caches, func(i, j int) bool {
		if caches[i].Level != caches[j].Level {
			return caches[i].Level < caches[j].Level
		}
		return caches[i].Type < caches[j].Type
	})
	return caches, reason
}

func readCache(root fs.FS, dir string) (Cache, error) {
	level, err := readInt(root, dir+"/level")
	if err != nil {
		return Cache{}, err
	}
	kind, err := readLine(root, dir+"/type")
	if err != nil {
		return Cache{}, err
	}
	text, err := readLine(root, dir+"/size")
	if err != nil {
		return Cache{}, err
	}
	size, err := parseCacheSize(text)
	if err != nil {
		return Cache{}, fmt.Errorf("/%s/size: %w", dir, err)
	}
	c := Cache{Level: int(level), Type: strings.ToLower(kind), Size: size}
	// The two that follow are missing on some arm64 firmware; 0 says unknown.
	if line, err := readInt(root, dir+"/coherency_line_size"); err == nil {
		c.Line = int(line)
	}
	if list, err := readLine(root, dir+"/shared_cpu_list"); err == nil {
		if cpus, err := ParseCPUs(list); err == nil {
			c.SharedBy = len(cpus)
		}
	}
	return c, nil
}

// parseCacheSize reads "48K", "32M" or plain bytes.
func parseCacheSize(s string) (int64, error) {
	number, shift := s, 0
	switch {
	case strings.HasSuffix(s, "K"):
		number, shift = s[:len(s)-1], 10
	case strings.HasSuffix(s, "M"):
		number, shift = s[:len(s)-1], 20
	case strings.HasSuffix(s, "G"):
		number, shift = s[:len(s)-1], 30
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is not a cache size", s)
	}
	return n << shift, nil
}

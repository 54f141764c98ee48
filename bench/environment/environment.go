// Package environment records what bears on a measurement: the host as it is set up, and what else it did meanwhile.
package environment

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/hw"
)

// unknown is what the host does not tell.
const unknown = "unknown"

// Describe gives the environment that host is, with what hw does not look at from the file system root, which holds proc and sys.
func Describe(host *hw.Host, root fs.FS) report.Environment {
	var e report.Environment
	read := func(name string) string {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	name := sha256.Sum256([]byte(read("proc/sys/kernel/hostname") + read("etc/machine-id")))
	e.Host = hex.EncodeToString(name[:4])

	c := &host.CPU
	e.CPU.Model, e.CPU.Vendor, e.CPU.Arch, e.CPU.Family, e.CPU.ModelNumber, e.CPU.Stepping = c.Model, c.Vendor, c.Arch, c.Family, c.ModelNumber, c.Stepping
	e.CPU.Level, e.CPU.Features, e.CPU.Masked = string(c.Level), c.Features.List(), append([]string{}, c.Masked...)
	e.CPU.Sockets, e.CPU.Cores, e.CPU.Threads, e.CPU.Allowed, e.CPU.Affinity = c.Sockets, c.Cores, c.Threads, c.CoresAllowed, append([]int{}, c.Affinity...)
	e.CPU.Caches = []report.Cache{}
	for _, cache := range c.Caches {
		e.CPU.Caches = append(e.CPU.Caches, report.Cache{Level: cache.Level, Type: cache.Type, Bytes: cache.Size})
	}
	info := read("proc/cpuinfo")
	e.CPU.Microcode = field(info, "microcode")
	e.CPU.SMT = orUnknown(map[string]string{"1": "on", "0": "off"}[read("sys/devices/system/cpu/smt/active")])
	if control := read("sys/devices/system/cpu/smt/control"); control == "notsupported" || control == "notimplemented" {
		e.CPU.SMT = "notsupported"
	}
	e.CPU.Governor, e.CPU.Driver = governor(root)
	e.CPU.Boost = boost(read)

	e.Memory.TotalBytes, e.Memory.AvailableBytes = host.Memory.Total, host.Memory.Available
	e.Memory.TransparentHugePages, e.Memory.NUMANodes = host.Memory.TransparentHugePages, len(host.NUMA)
	e.Memory.HugePages = []report.HugePool{}
	for _, p := range host.Memory.HugePages {
		e.Memory.HugePages = append(e.Memory.HugePages, report.HugePool{PageBytes: p.Size, Total: p.Total, Free: p.Free})
	}
	e.GPUs = []report.GPU{}
	for _, g := range host.GPUs {
		e.GPUs = append(e.GPUs, report.GPU{Name: g.Name, MemoryBytes: g.Memory, Driver: g.Driver})
	}
	e.Kernel, e.Glibc = host.Kernel, host.Glibc
	if slices.Contains(strings.Fields(field(info, "flags")), "hypervisor") {
		e.Virtual = "virtual machine"
		if vendor := read("sys/class/dmi/id/sys_vendor"); vendor != "" {
			e.Virtual += ", " + vendor
		}
	}
	e.Instance.Type, e.Instance.Family, e.Instance.Source = host.Instance.Type, host.Instance.Family, host.Instance.Source
	e.Differences = []report.Difference{}
	return e
}

func orUnknown(s string) string {
	if s == "" {
		return unknown
	}
	return s
}

// field is the value of the first line "name : value" of /proc/cpuinfo.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// governor is what chooses the frequency of all processors, and the driver that obeys it.
func governor(root fs.FS) (governor, driver string) {
	paths, _ := fs.Glob(root, "sys/devices/system/cpu/cpufreq/policy*/scaling_governor") // the pattern is well-formed
	seen := map[string]bool{}
	for _, path := range paths {
		if text, err := fs.ReadFile(root, path); err == nil {
			governor = strings.TrimSpace(string(text))
			seen[governor] = true
		}
		if text, err := fs.ReadFile(root, strings.TrimSuffix(path, "governor")+"driver"); err == nil {
			driver = strings.TrimSpace(string(text))
		}
	}
	switch len(seen) {
	case 0:
		return "none", driver
	case 1:
		return governor, driver
	}
	return "mixed", driver
}

// boost is whether processors may run faster than they can for long.
func boost(read func(string) string) string {
	switch {
	case read("sys/devices/system/cpu/intel_pstate/no_turbo") == "0", read("sys/devices/system/cpu/cpufreq/boost") == "1":
		return "on"
	case read("sys/devices/system/cpu/intel_pstate/no_turbo") == "1", read("sys/devices/system/cpu/cpufreq/boost") == "0":
		return "off"
	}
	return unknown
}

// loadAverage is that of one minute; 0 where the kernel does not tell it.
func loadAverage(root fs.FS) float64 {
	text, err := fs.ReadFile(root, "proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

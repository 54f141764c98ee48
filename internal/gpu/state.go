// Package gpu watches the health of NVIDIA GPUs through NVML while models run on them: what the driver reports (Xid events), errors of their
// memory, what slows them down, temperature, power, memory and load. It says once when one should not be used any more. What becomes of
// the models on it is the caller's business.
//
// Which GPUs there are is package hw's to find out, in a program of its own. Watching needs the driver's library in this process, where that
// of CUDA is, too.
package gpu

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Options are what is watched and who is told.
type Options struct {
	// Interval is how often the GPUs are asked; Xid events come by themselves. Default 10 s.
	Interval time.Duration
	// Sick is told once of each GPU that should not be used any more, on the goroutine that watches: its UUID, those of its MIG instances, and
	// why, in a sentence. It must not wait.
	Sick func(uuid string, parts []string, reason string)
	Log  *slog.Logger
}

// State is what was found out about a GPU the last time it was asked. What it does not tell is zero.
type State struct {
	Index       int
	UUID, Name  string
	Parts       []string // UUIDs of its MIG instances
	Temperature float64  // degrees Celsius
	Power       float64  // watts
	MemoryUsed  uint64   // bytes
	MemoryTotal uint64
	Load        float64 // part of the last moments in which a kernel ran, 0 to 1
	// Uncorrected counts errors of its memory that were found and not corrected, since the driver was loaded.
	Uncorrected uint64
	// Throttled are the reasons for which its clocks are lower than they could be, of those that an operator can do something about.
	Throttled []string
	// Xids counts the events that the driver reported, by number, since the watch began.
	Xids map[uint64]uint64
	// Sick is why it should not be used any more; empty while it is well.
	Sick string
	// Asked is when.
	Asked time.Time
}

func (s State) clone() State {
	s.Parts, s.Throttled = slices.Clone(s.Parts), slices.Clone(s.Throttled)
	xids := make(map[uint64]uint64, len(s.Xids))
	for k, v := range s.Xids {
		xids[k] = v
	}
	s.Xids = xids
	return s
}

// Xids that a program's own mistake causes: the GPU is well, and the program finds out by its own errors. They are those that NVIDIA's device
// plugin for Kubernetes passes over, too.
var applicationXids = []uint64{
	13,  // graphics engine exception
	31,  // GPU memory page fault
	43,  // GPU stopped processing
	45,  // preemptive clean-up, due to previous errors
	68,  // video processor exception
	109, // context switch timeout
}

// xidMeaning names those that are seen most often; NVIDIA's document on Xid errors has them all.
var xidMeaning = map[uint64]string{
	13: "graphics engine exception", 31: "memory page fault", 43: "the GPU stopped processing", 45: "clean-up after earlier errors",
	48: "double-bit ECC error", 61: "internal micro-controller breakpoint", 62: "internal micro-controller halt", 63: "a memory row was retired or remapped",
	64: "a memory row could not be retired or remapped", 74: "NVLink error", 79: "the GPU has fallen off the bus", 92: "high rate of single-bit ECC errors",
	94: "contained ECC error", 95: "uncontained ECC error", 119: "GSP RPC timeout", 120: "GSP error", 140: "unrecovered ECC error",
}

func xidText(n uint64) string {
	if text := xidMeaning[n]; text != "" {
		return fmt.Sprintf("Xid %d, %s", n, text)
	}
	return fmt.Sprintf("Xid %d", n)
}

// xidIsFatal tells whether a GPU is to be given up after the event. Retired rows are the GPU's way to stay well.
func xidIsFatal(n uint64) bool { return n != 63 && !slices.Contains(applicationXids, n) }

// Reasons for low clocks, as bits of what NVML answers.
var throttleReasons = []struct {
	bit  uint64
	name string
}{
	{4, "power_cap"}, {8, "hardware_slowdown"}, {32, "software_thermal"}, {64, "hardware_thermal"}, {128, "power_brake"},
}

func throttledBy(bits uint64) (names []string) {
	for _, r := range throttleReasons {
		if bits&r.bit != 0 {
			names = append(names, r.name)
		}
	}
	return names
}

// hardware tells whether the reasons are more than a limit of power that somebody has set.
func hardware(reasons []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(reasons), func(r string) bool { return r == "power_cap" }), ", ")
}

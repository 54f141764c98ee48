package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/packaging"
)

// Choose takes the first variant of a package that the host can run, and says of each why or why not. The index is -1
// where there is none.
func Choose(m *packaging.Manifest, host *hw.Host) (index int, variants []engine.Variant) {
	index = -1
	for i, v := range m.Variants {
		one := engine.Variant{Name: v.Name, Reason: unmet(v.Requires, host)}
		switch {
		case one.Reason != "":
		case index < 0:
			index, one.Chosen, one.Reason = i, true, "chosen: the first that this host can run"
		default:
			one.Reason = "not needed: " + m.Variants[index].Name + " comes first"
		}
		variants = append(variants, one)
	}
	return index, variants
}

// unmet says what the host lacks; nothing where it lacks nothing.
func unmet(r packaging.Requires, host *hw.Host) string {
	if r.Arch != "" && r.Arch != host.CPU.Arch {
		return fmt.Sprintf("it is built for %s, this host is %s", r.Arch, host.CPU.Arch)
	}
	if r.Level != "" && !host.CPU.Level.Runs(hw.Level(r.Level)) {
		return fmt.Sprintf("it needs a processor of level %s, this host has %s", r.Level, host.CPU.Level)
	}
	have := host.CPU.Features.List()
	for _, f := range r.Features {
		if !slices.Contains(have, f) {
			return fmt.Sprintf("it needs the processor feature %s, which this host has not", f)
		}
	}
	switch {
	case r.Glibc == "":
	case host.Glibc == "":
		return fmt.Sprintf("it needs glibc %s, and %s", r.Glibc, host.GlibcReason)
	case packaging.CompareDotted(host.Glibc, r.Glibc) < 0:
		return fmt.Sprintf("it needs glibc %s, this host has %s", r.Glibc, host.Glibc)
	}
	return unmetGPU(r.GPU, host)
}

func unmetGPU(r *packaging.GPU, host *hw.Host) string {
	if r == nil {
		return ""
	}
	if len(host.GPUs) == 0 {
		return "it needs a GPU, and " + host.GPUReason
	}
	best := ""
	for _, gpu := range host.GPUs {
		if best == "" || packaging.CompareDotted(gpu.ComputeCapability, best) > 0 {
			best = gpu.ComputeCapability
		}
	}
	if r.ComputeCapability != "" && packaging.CompareDotted(best, r.ComputeCapability) < 0 {
		return fmt.Sprintf("it needs a GPU of compute capability %s, this host has %s", r.ComputeCapability, best)
	}
	return ""
}

// noneFits is the sentence for a package without a variant for this host.
func noneFits(variants []engine.Variant) error {
	reasons := make([]string, len(variants))
	for i, v := range variants {
		reasons[i] = v.Name + " (" + v.Reason + ")"
	}
	return fmt.Errorf("%w: none of its variants can be run here: %s", engine.ErrHost, strings.Join(reasons, "; "))
}

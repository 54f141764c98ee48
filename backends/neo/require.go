package neo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
)

// CheckSupported refuses, by name, what a backend that hands tensors through
// would silently leave out. The error wraps engine.ErrUnsupported.
func (m Metadata) CheckSupported() error {
	if len(m.Transforms) > 0 {
		return fmt.Errorf("%w: the model asks for %s, which is not applied here; compile it without, and map the values before the request",
			engine.ErrUnsupported, strings.Join(m.Transforms, " and "))
	}
	return nil
}

// CheckHost tells whether the host is one the model was compiled for. Errors
// wrap engine.ErrHost, or engine.ErrArtifact where the requirement makes no
// sense.
func (m Metadata) CheckHost(host *hw.Host) error {
	switch m.DeviceType {
	case "", "cpu":
	default:
		return fmt.Errorf("%w: it was compiled for device type %q; only \"cpu\" runs here", engine.ErrHost, m.DeviceType)
	}
	if m.CPULevel == "" || host.CPU.Level.Runs(m.CPULevel) {
		return nil
	}
	if !slices.Contains([]hw.Level{hw.X86V1, hw.X86V2, hw.X86V3, hw.X86V4, hw.AArch64}, m.CPULevel) {
		return fmt.Errorf("%w: its compiled.meta asks for CPU level %q, which does not exist", engine.ErrArtifact, string(m.CPULevel))
	}
	here := string(host.CPU.Level)
	if here == "" {
		here = "of no known level"
	}
	return fmt.Errorf("%w: it was compiled for %s; this host is %s%s", engine.ErrHost, m.CPULevel, here, lacking(m.CPULevel, host))
}

// lacking names what the host would need to run code of that level.
func lacking(want hw.Level, host *hw.Host) string {
	if host.CPU.Arch != "amd64" || want == hw.AArch64 {
		return ""
	}
	var names []string
	for _, l := range x86Levels {
		for _, f := range l.features {
			if !host.CPU.Features.Has(f) {
				names = append(names, f.String())
			}
		}
		if l.level == want {
			break
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ": it lacks " + strings.Join(names, ", ")
}

// x86Levels is, level by level, what each adds to the one before and the host
// description has a name for. It serves messages alone: hw.Level.Runs decides.
var x86Levels = []struct {
	level    hw.Level
	features []hw.Feature
}{
	{hw.X86V2, []hw.Feature{hw.SSE42}},
	{hw.X86V3, []hw.Feature{hw.AVX, hw.AVX2, hw.FMA, hw.BMI2, hw.F16C}},
	{hw.X86V4, []hw.Feature{hw.AVX512F, hw.AVX512BW, hw.AVX512DQ, hw.AVX512VL}},
}

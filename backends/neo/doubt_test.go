package neo

import (
	"testing"

	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

func TestDoubt(t *testing.T) {
	haswell := &hw.Host{CPU: hw.CPU{Arch: "amd64", Level: hw.X86V3, Features: hw.FeaturesOf(hw.SSE42, hw.AVX, hw.AVX2, hw.FMA, hw.BMI2, hw.F16C)}}
	skylake := &hw.Host{CPU: hw.CPU{Arch: "amd64", Level: hw.X86V4}}
	graviton := &hw.Host{CPU: hw.CPU{Arch: "arm64", Level: hw.AArch64}}
	const say = "compiled.so was compiled for target device ML_C5, where Neo may use x86-64-v4; this host is x86-64-v3: " +
		"it lacks avx512f, avx512bw, avx512dq, avx512vl; if the process ends with SIGILL, compile the model for this host"
	for name, tc := range map[string]struct {
		m     Metadata
		host  *hw.Host
		level int // in the property note
		want  string
	}{
		"a lesser host":            {Metadata{TargetDevice: "ML_C5"}, haswell, 0, say},
		"that host":                {Metadata{TargetDevice: "ML_C5"}, skylake, 0, ""},
		"a lesser target":          {Metadata{TargetDevice: "ml_m4"}, haswell, 0, ""},
		"no target":                {Metadata{}, haswell, 0, ""},
		"another target":           {Metadata{TargetDevice: "jetson_nano"}, haswell, 0, ""},
		"another machine":          {Metadata{TargetDevice: "ML_C5"}, graviton, 0, ""}, // refused by the ELF header
		"the linker said it":       {Metadata{TargetDevice: "ML_C5"}, haswell, 3, ""},
		"the metadata says it":     {Metadata{TargetDevice: "ML_C5", CPULevel: hw.X86V3}, haswell, 0, ""},
		"nothing of the processor": {Metadata{TargetDevice: "ml_c4"}, &hw.Host{CPU: hw.CPU{Arch: "amd64", Level: hw.X86V3}}, 0, ""},
	} {
		if got := tc.m.Doubt(tc.host, &dl.Object{Name: "compiled.so", X86Level: tc.level}); got != tc.want {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, tc.want)
		}
	}
}

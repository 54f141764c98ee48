package hw

import (
	"reflect"
	"strings"
	"testing"
)

func TestMask(t *testing.T) {
	// Everything an x86-64 processor can have.
	full := x86Features
	tests := []struct {
		mask      string
		level     Level
		gone      []Feature // among those that must be gone
		remaining []Feature // and stay
	}{
		{"", X86V4, nil, []Feature{AVX512BF16, AMXInt8}},
		{"avx512vnni", X86V4, []Feature{AVX512VNNI}, []Feature{AVX512F, AVX512VBMI}},
		{"avx512f", X86V3, []Feature{AVX512F, AVX512BW, AVX512VL, AVX512VBMI2, AVX512BF16}, []Feature{AVX2, GFNI, AMXTile}},
		{"AVX2", X86V2, []Feature{AVX2, AVX512F, AVX512VPOPCNTDQ}, []Feature{AVX, FMA, F16C}},
		{"f16c, bmi2", X86V2, []Feature{F16C, BMI2, AVX512F}, []Feature{AVX2, FMA}},
		{"sse4.2", X86V1, []Feature{SSE42, AVX, AVX2, AVX512F}, []Feature{BMI2}},
		{"amx-tile", X86V4, []Feature{AMXTile, AMXInt8, AMXBF16}, []Feature{AVX512F}},
		{"x86-64-v4", X86V4, []Feature{AVX512VBMI, AVX512VNNI, GFNI, AMXTile}, []Feature{AVX512VL}},
		{"x86-64-v3", X86V3, []Feature{AVX512F, GFNI, AMXBF16}, []Feature{AVX2, FMA, BMI2, F16C}},
		{"x86-64-v3,fma", X86V2, []Feature{FMA, AVX512F}, []Feature{AVX2}},
		{"x86-64-v1", X86V1, []Feature{SSE42, AVX, BMI2}, nil},
		{"x86-64", X86V1, []Feature{SSE42, AVX, BMI2}, nil},
		{"sve,neon", X86V4, nil, []Feature{AVX512F}},
	}
	for _, tt := range tests {
		t.Run(tt.mask, func(t *testing.T) {
			away, err := ParseMask(tt.mask, "amd64")
			if err != nil {
				t.Fatal(err)
			}
			left, names := applyMask(full, away)
			if got := levelOf("amd64", left, 4); got != tt.level {
				t.Errorf("level %s, want %s", got, tt.level)
			}
			if left&FeaturesOf(tt.gone...) != 0 {
				t.Errorf("left %v, of which %v should be gone", left.List(), tt.gone)
			}
			if !left.HasAll(FeaturesOf(tt.remaining...)) {
				t.Errorf("left %v, without some of %v", left.List(), tt.remaining)
			}
			if len(names)+len(left.List()) != len(full.List()) {
				t.Errorf("masked %v and left %v are not the whole", names, left.List())
			}
		})
	}
}

func TestMaskErrors(t *testing.T) {
	for _, tt := range []struct{ mask, arch, want string }{
		{"avx51f", "amd64", `unknown feature or level "avx51f"`},
		{"avx2,x86-64-v5", "amd64", `unknown feature or level "x86-64-v5"`},
		{"x86-64", "arm64", "level x86-64-v1 does not exist on arm64"},
		{"x86-64-v3", "arm64", "level x86-64-v3 does not exist on arm64"},
		{"aarch64", "amd64", "level aarch64 does not exist on amd64"},
	} {
		away, err := ParseMask(tt.mask, tt.arch)
		if err == nil || !strings.Contains(err.Error(), tt.want) || away != 0 {
			t.Errorf("ParseMask(%q, %q) = %v, %v; want an error with %q", tt.mask, tt.arch, away, err, tt.want)
		}
	}
}

func TestArmMask(t *testing.T) {
	for mask, want := range map[string][]string{
		"aarch64": {"neon"},
		"sve":     {"neon", "dotprod", "i8mm", "bf16", "fp16"},
		"neon":    {},
		"dotprod": {"neon", "i8mm", "bf16", "sve", "sve2", "fp16"},
	} {
		away, err := ParseMask(mask, "arm64")
		if err != nil {
			t.Fatal(err)
		}
		if left, _ := applyMask(armFeatures, away); !reflect.DeepEqual(left.List(), want) {
			t.Errorf("mask %q leaves %v, want %v", mask, left.List(), want)
		}
	}
}

func TestUnreadableMaskMasksNothingAndSaysSo(t *testing.T) {
	h := detect(t.Context(), Options{Mask: "avx3"}, fakePlatform(twoSocketFiles()))
	if h.CPU.Level != X86V4 || !strings.Contains(h.CPU.MaskReason, "avx3") {
		t.Errorf("level %s, reason %q", h.CPU.Level, h.CPU.MaskReason)
	}
}

// A processor whose lesser instructions (CMPXCHG16B, MOVBE) are hidden does
// not reach the level its vector units would.
func TestCeilingCapsTheLevel(t *testing.T) {
	for ceiling, want := range map[int]Level{4: X86V4, 3: X86V3, 2: X86V2, 1: X86V1} {
		if got := levelOf("amd64", x86Features, ceiling); got != want {
			t.Errorf("ceiling %d gives %s, want %s", ceiling, got, want)
		}
	}
}

func TestHypervisorThatHidesAPrerequisite(t *testing.T) {
	left := (x86Features &^ FeaturesOf(FMA)).usable()
	if left.Has(AVX512F) || left.Has(AVX512VBMI) || !left.Has(AVX2) {
		t.Errorf("without FMA the usable features are %v", left.List())
	}
}

func TestLevelRuns(t *testing.T) {
	for _, tt := range []struct {
		host, code Level
		want       bool
	}{
		{X86V3, X86V2, true}, {X86V3, X86V3, true}, {X86V3, X86V4, false},
		{AArch64, AArch64, true}, {AArch64, X86V1, false}, {X86V4, AArch64, false}, {"", "", false},
	} {
		if got := tt.host.Runs(tt.code); got != tt.want {
			t.Errorf("%s runs %s: %v", tt.host, tt.code, got)
		}
	}
}

func TestOptionsFromEnv(t *testing.T) {
	env := map[string]string{EnvCPUMask: "avx512f", EnvInstanceType: "m5.large", EnvIMDS: "off"}
	opts, err := OptionsFromEnv(func(k string) string { return env[k] })
	if err != nil || opts.Mask != "avx512f" || opts.InstanceType != "m5.large" || !opts.NoIMDS {
		t.Errorf("options %+v, %v", opts, err)
	}
	for key, value := range map[string]string{EnvCPUMask: "avx3", EnvInstanceType: "big one", EnvIMDS: "maybe"} {
		_, err := OptionsFromEnv(func(k string) string { return map[string]string{key: value}[k] })
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: error %v names not both", key, value, err)
		}
	}
}

func FuzzParseMask(f *testing.F) {
	for _, s := range []string{"", "avx2", "x86-64-v3,f16c", "neon", "aarch64", ",,", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, arch := range []string{"amd64", "arm64"} {
			away, err := ParseMask(s, arch)
			if err != nil && away != 0 {
				t.Fatalf("%q on %s gave both %v and %v", s, arch, away.List(), err)
			}
			all := x86Features | armFeatures
			left, _ := applyMask(all, away)
			if left != left.usable() || left&^all != 0 {
				t.Fatalf("%q on %s leaves %v, some without what they need", s, arch, left.List())
			}
		}
	})
}

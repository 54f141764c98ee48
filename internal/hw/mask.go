package hw

import (
	"fmt"
	"sort"
	"strings"
)

// needs says which features the code of a feature also uses. Compilers switch
// these on together (-mavx512f implies AVX2, FMA and F16C), so a host that
// lacks one of them cannot run code built for the other.
var needs = map[Feature]Features{
	AVX:             FeaturesOf(SSE42),
	AVX2:            FeaturesOf(AVX),
	FMA:             FeaturesOf(AVX),
	F16C:            FeaturesOf(AVX),
	AVX512F:         FeaturesOf(AVX2, FMA, F16C),
	AVX512BW:        FeaturesOf(AVX512F),
	AVX512DQ:        FeaturesOf(AVX512F),
	AVX512VL:        FeaturesOf(AVX512F),
	AVX512VBMI:      FeaturesOf(AVX512BW),
	AVX512VBMI2:     FeaturesOf(AVX512BW),
	AVX512VNNI:      FeaturesOf(AVX512F),
	AVX512BF16:      FeaturesOf(AVX512BW),
	AVX512VPOPCNTDQ: FeaturesOf(AVX512F),
	AMXInt8:         FeaturesOf(AMXTile),
	AMXBF16:         FeaturesOf(AMXTile),
	DotProd:         FeaturesOf(NEON),
	I8MM:            FeaturesOf(NEON),
	BF16:            FeaturesOf(NEON),
	FP16:            FeaturesOf(NEON),
	SVE:             FeaturesOf(NEON),
	SVE2:            FeaturesOf(SVE),
}

// x86Features are all features of x86-64 and armFeatures those of arm64.
var (
	x86Features = FeaturesOf(SSE42, AVX, AVX2, FMA, BMI2, F16C,
		AVX512F, AVX512BW, AVX512DQ, AVX512VL, AVX512VBMI, AVX512VBMI2,
		AVX512VNNI, AVX512BF16, AVX512VPOPCNTDQ, GFNI, AMXTile, AMXInt8, AMXBF16)
	armFeatures = FeaturesOf(NEON, DotProd, I8MM, BF16, SVE, SVE2, FP16)
)

// usable returns s without the features that miss something they need.
func (s Features) usable() Features {
	for {
		before := s
		for f, need := range needs {
			if s.Has(f) && !s.HasAll(need) {
				s &^= FeaturesOf(f)
			}
		}
		if s == before {
			return s
		}
	}
}

// ParseMask reads a comma-separated list of features ("avx512f,f16c") and
// levels ("x86-64-v3", which takes away everything above it; "x86-64" is
// another name of "x86-64-v1") for processors
// of arch (a GOARCH) and returns the features to take away, including those
// that need one that goes. Features of the other architecture are accepted
// and change nothing, so that one setting serves a mixed fleet. Case and
// blanks do not matter.
func ParseMask(spec, arch string) (Features, error) {
	all := x86Features | armFeatures
	keep := all
	for item := range strings.SplitSeq(spec, ",") {
		name := strings.ToLower(strings.TrimSpace(item))
		if name == "" {
			continue
		}
		if f, ok := featureNamed(name); ok {
			keep &^= FeaturesOf(f)
			continue
		}
		if name == "x86-64" {
			name = string(X86V1) // as compilers call it
		}
		above, err := aboveLevel(Level(name), arch)
		if err != nil {
			return 0, fmt.Errorf("reading CPU mask %q: %w", spec, err)
		}
		keep &^= above
	}
	return all &^ keep.usable(), nil
}

// aboveLevel returns the features of arch that are no part of level.
func aboveLevel(level Level, arch string) (Features, error) {
	switch {
	case level == AArch64 && arch == "arm64":
		return armFeatures &^ FeaturesOf(NEON), nil
	case level.rank() >= 0 && arch == "amd64":
		return x86Features &^ x86Levels[level.rank()].need, nil
	case level == AArch64 || level.rank() >= 0:
		return 0, fmt.Errorf("level %s does not exist on %s; name the features instead", level, arch)
	}
	return 0, fmt.Errorf("unknown feature or level %q; use x86-64-v1 (or x86-64) to x86-64-v4, aarch64, or any of %s",
		string(level), strings.Join((x86Features|armFeatures).List(), " "))
}

func featureNamed(name string) (Feature, bool) {
	for f, n := range featureNames {
		if n == name {
			return Feature(f), true
		}
	}
	return 0, false
}

// applyMask returns what is left of present, and the sorted names of what
// went.
func applyMask(present, away Features) (Features, []string) {
	gone := (present & away).List()
	sort.Strings(gone)
	return present &^ away, gone
}

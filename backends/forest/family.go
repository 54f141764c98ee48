package forest

import "github.com/picket-ml/picket/internal/hw"

// family is a set of kernels for one instruction set.
type family struct {
	name   string
	number int // as in forest.h
	width  int // bytes of a register of the slice kernel
	needs  hw.Features
	code   string // in C: what its file's name starts with, and its functions' names end with
}

// plain is the kernel that runs everywhere.
var plainFamily = family{name: "portable"}

// families are ordered from the best.
var families = [...]family{
	{"avx512vbmi", 1, 64, hw.FeaturesOf(hw.AVX512F, hw.AVX512BW, hw.AVX512DQ, hw.AVX512VL, hw.AVX512VBMI, hw.GFNI, hw.BMI2), "vbmi"},
	{"avx512bw", 2, 64, hw.FeaturesOf(hw.AVX512F, hw.AVX512BW, hw.AVX512DQ, hw.AVX512VL, hw.BMI2), "bw"},
	{"avx2", 3, 32, hw.FeaturesOf(hw.AVX2, hw.BMI2), "avx2"},
	{"neon", 4, 16, hw.FeaturesOf(hw.NEON), "neon"},
}

// familyOf is the best family whose instructions the host has. Features that are masked count as absent, so that every
// family can be tried on one host.
func familyOf(host *hw.Host) family {
	for _, f := range families {
		if host.CPU.Features.HasAll(f.needs) {
			return f
		}
	}
	return plainFamily
}

// Family names the kernels that the host gets: "avx512vbmi", "avx512bw", "avx2", "neon" or "portable".
func Family(host *hw.Host) string { return familyOf(host).name }

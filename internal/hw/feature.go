package hw

import (
	"encoding/json"
	"math/bits"
)

// Feature is one instruction set extension that some code of ours, or some
// artifact, is dispatched on.
type Feature uint8

// The features of both architectures. The names are those String returns.
const (
	SSE42 Feature = iota
	AVX
	AVX2
	FMA
	BMI2
	F16C
	AVX512F
	AVX512BW
	AVX512DQ
	AVX512VL
	AVX512VBMI
	AVX512VBMI2
	AVX512VNNI
	AVX512BF16
	AVX512VPOPCNTDQ
	GFNI
	// AMXTile and its kin also need the kernel's permission, asked for once
	// per process with arch_prctl(ARCH_REQ_XCOMP_PERM); the feature says only
	// that asking makes sense.
	AMXTile
	AMXInt8
	AMXBF16
	NEON
	DotProd
	I8MM
	BF16 // of arm64; x86-64 has AVX512BF16 and AMXBF16
	SVE
	SVE2
	FP16 // half-precision arithmetic of arm64

	featureCount
)

// featureNames holds the names in the order of the constants.
var featureNames = [featureCount]string{
	"sse4.2", "avx", "avx2", "fma", "bmi2", "f16c",
	"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2",
	"avx512vnni", "avx512bf16", "avx512vpopcntdq", "gfni",
	"amx-tile", "amx-int8", "amx-bf16",
	"neon", "dotprod", "i8mm", "bf16", "sve", "sve2", "fp16",
}

// String returns the lower-case name, "avx512f".
func (f Feature) String() string {
	if f >= featureCount {
		return "unknown"
	}
	return featureNames[f]
}

// Features is a set of features. It is a value: copying it is cheap and safe.
type Features uint64

// FeaturesOf returns the set of the given features.
func FeaturesOf(features ...Feature) Features {
	var s Features
	for _, f := range features {
		s |= 1 << f
	}
	return s
}

// Has reports whether f is in the set.
func (s Features) Has(f Feature) bool { return s&(1<<f) != 0 }

// HasAll reports whether every feature of want is in the set.
func (s Features) HasAll(want Features) bool { return s&want == want }

// List returns the names in the order of the constants; never nil.
func (s Features) List() []string {
	names := make([]string, 0, bits.OnesCount64(uint64(s)))
	for f := range featureCount {
		if s.Has(f) {
			names = append(names, featureNames[f])
		}
	}
	return names
}

// MarshalJSON writes the set as an array of names.
func (s Features) MarshalJSON() ([]byte, error) { return json.Marshal(s.List()) }

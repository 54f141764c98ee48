package hw

// Level is a named set of features that compilers and packages target.
type Level string

// The levels. X86V1 is every x86-64 processor; AArch64 is every arm64 one.
const (
	X86V1   Level = "x86-64-v1"
	X86V2   Level = "x86-64-v2"
	X86V3   Level = "x86-64-v3"
	X86V4   Level = "x86-64-v4"
	AArch64 Level = "aarch64"
)

// x86Levels are ordered from the lowest; each includes the one before.
var x86Levels = [...]struct {
	level Level
	need  Features
}{
	{X86V1, 0},
	{X86V2, FeaturesOf(SSE42)},
	{X86V3, FeaturesOf(SSE42, AVX, AVX2, FMA, BMI2, F16C)},
	{X86V4, FeaturesOf(SSE42, AVX, AVX2, FMA, BMI2, F16C, AVX512F, AVX512BW, AVX512DQ, AVX512VL)},
}

// rank returns the position of an x86-64 level, or -1.
func (l Level) rank() int {
	for i, x := range x86Levels {
		if x.level == l {
			return i
		}
	}
	return -1
}

// Runs reports whether a host of level l can run code compiled for want.
func (l Level) Runs(want Level) bool {
	if l.rank() < 0 || want.rank() < 0 {
		return l == want && l != ""
	}
	return l.rank() >= want.rank()
}

// levelOf returns the highest level whose features are all in s. The features
// we name are a part of what the x86-64 levels require, so ceiling carries
// what the processor as a whole reaches (1 to 4) and caps the answer.
func levelOf(arch string, s Features, ceiling int) Level {
	switch arch {
	case "arm64":
		return AArch64
	case "amd64":
		level := X86V1
		for i, x := range x86Levels {
			if i < ceiling && s.HasAll(x.need) {
				level = x.level
			}
		}
		return level
	}
	return ""
}

package hw

import (
	"runtime"

	"github.com/klauspost/cpuid/v2"
)

// processor is what the processor says about itself, before any mask.
type processor struct {
	vendor, model            string
	family, number, stepping int
	features                 Features
	// ceiling is the x86-64 level that all its features reach, 0 elsewhere.
	ceiling        int
	cores, threads int
	caches         []Cache
}

// cpuidNames pairs our features with those of the cpuid library. FP16 needs
// two of them and is not listed.
var cpuidNames = map[Feature]cpuid.FeatureID{
	SSE42: cpuid.SSE42, AVX: cpuid.AVX, AVX2: cpuid.AVX2, FMA: cpuid.FMA3, BMI2: cpuid.BMI2, F16C: cpuid.F16C,
	AVX512F: cpuid.AVX512F, AVX512BW: cpuid.AVX512BW, AVX512DQ: cpuid.AVX512DQ, AVX512VL: cpuid.AVX512VL,
	AVX512VBMI: cpuid.AVX512VBMI, AVX512VBMI2: cpuid.AVX512VBMI2, AVX512VNNI: cpuid.AVX512VNNI,
	AVX512BF16: cpuid.AVX512BF16, AVX512VPOPCNTDQ: cpuid.AVX512VPOPCNTDQ, GFNI: cpuid.GFNI,
	AMXTile: cpuid.AMXTILE, AMXInt8: cpuid.AMXINT8, AMXBF16: cpuid.AMXBF16,
	NEON: cpuid.ASIMD, DotProd: cpuid.ASIMDDP, I8MM: cpuid.I8MM, BF16: cpuid.BF16,
	SVE: cpuid.SVE, SVE2: cpuid.SVE2,
}

// readProcessor asks the processor through the cpuid library. The library's
// package-level CPU is copied and never changed: its Disable would mask
// features for every other user in the process.
func readProcessor() processor {
	c := cpuid.CPU
	p := processor{
		vendor: c.VendorString, model: c.BrandName,
		family: c.Family, number: c.Model, stepping: c.Stepping,
		ceiling: c.X64Level(),
		cores:   c.PhysicalCores, threads: c.LogicalCores,
	}
	for ours, theirs := range cpuidNames {
		if c.Has(theirs) {
			p.features |= FeaturesOf(ours)
		}
	}
	if c.Has(cpuid.FPHP) && c.Has(cpuid.ASIMDHP) {
		p.features |= FeaturesOf(FP16)
	}
	if runtime.GOARCH == "arm64" {
		p.features &= armFeatures
	} else {
		p.features &= x86Features
	}
	p.caches = cpuidCaches(c)
	return p
}

// cpuidCaches turns what cpuid knows into our form; it does not know who
// shares what.
func cpuidCaches(c cpuid.CPUInfo) []Cache {
	var caches []Cache
	for _, x := range []Cache{
		{Level: 1, Type: "data", Size: int64(c.Cache.L1D)},
		{Level: 1, Type: "instruction", Size: int64(c.Cache.L1I)},
		{Level: 2, Type: "unified", Size: int64(c.Cache.L2)},
		{Level: 3, Type: "unified", Size: int64(c.Cache.L3)},
	} {
		if x.Size > 0 {
			x.Line = c.CacheLine
			caches = append(caches, x)
		}
	}
	return caches
}

// detectCPU puts together what the processor says, what the kernel lets this
// process use of it, and the mask.
func detectCPU(mask string, p platform) CPU {
	raw := p.cpu()
	c := CPU{
		Arch: p.arch, Vendor: raw.vendor, Model: raw.model,
		Family: raw.family, ModelNumber: raw.number, Stepping: raw.stepping,
		Cores: raw.cores, Threads: raw.threads,
	}
	if c.Model == "" {
		c.Model = armModel(p.root)
	}

	away, err := ParseMask(mask, p.arch)
	if err != nil {
		c.MaskReason = err.Error() + "; no feature is masked"
	}
	// A hypervisor may hide a feature and leave those that need it.
	c.Features, c.Masked = applyMask(raw.features.usable(), away)
	c.Level = levelOf(p.arch, c.Features, raw.ceiling)

	if t, ok := readTopology(p.root); ok {
		c.Sockets, c.Cores, c.Threads = t.sockets, t.cores, t.threads
	}

	allowed := p.cpusAtStart
	c.Affinity, err = p.affinity()
	switch {
	case err != nil:
		c.AffinityReason = err.Error()
	case len(c.Affinity) == 0:
		c.AffinityReason = "the kernel named no CPU that this process may run on"
	default:
		allowed = len(c.Affinity)
	}
	c.Quota = cpuQuota(p.root)
	c.CoresAllowed = float64(max(allowed, 1))
	if q := c.Quota.Cores; q > 0 {
		c.CoresAllowed = min(c.CoresAllowed, q)
	}

	first := 0
	if len(c.Affinity) > 0 {
		first = c.Affinity[0]
	}
	c.Caches, c.CachesReason = readCaches(p.root, first)
	if len(c.Caches) == 0 && len(raw.caches) > 0 {
		c.Caches, c.CachesReason = raw.caches, c.CachesReason+"; sizes are the processor's own, sharing is unknown"
	}
	return c
}

package hw

import (
	"context"
	"io/fs"
	"runtime"
)

// Detect describes this host. It does not fail: what is absent carries its
// reason in the Host. It reads /proc and /sys and, where an NVIDIA driver is
// loaded, asks NVML within Options.GPUTimeout; it never talks to the network,
// so Instance holds only what the options say (see DetectInstance).
func Detect(ctx context.Context, opts Options) *Host {
	return detect(ctx, opts, thisPlatform())
}

// platform is everything detection takes from the outside, so that tests can
// put another machine in its place.
type platform struct {
	os, arch string
	// root is the file system from /, read with slash-separated paths that
	// have no leading slash.
	root fs.FS
	// cpu reads the processor.
	cpu func() processor
	// affinity lists the logical CPUs this process may run on.
	affinity func() ([]int, error)
	// cpusAtStart is what the Go runtime counted, for when affinity fails.
	cpusAtStart int
	// kernel is the kernel release.
	kernel func() (string, error)
	// memlock is the soft RLIMIT_MEMLOCK.
	memlock func() Limit
	// gpus asks the driver's library; called only where a driver is loaded.
	gpus func(context.Context) GPUReport
}

func detect(ctx context.Context, opts Options, p platform) *Host {
	h := &Host{OS: p.os}

	// The driver takes longest to answer, so it is asked first and the rest
	// is read meanwhile.
	report := make(chan GPUReport, 1)
	go func() { report <- detectGPUs(ctx, opts, p) }()

	h.CPU = detectCPU(opts.Mask, p)
	h.Memory = detectMemory(p)
	h.NUMA, h.NUMAReason = readNUMA(p.root)
	h.Glibc, h.GlibcReason = glibcVersion(p.root)
	// A host without a kernel release has been told so by its OS name.
	h.Kernel, _ = p.kernel()
	h.Instance = instanceBeforeAsking(opts)

	r := <-report
	h.GPUs, h.GPUReason = r.GPUs, r.Reason
	return h
}

// WithInstance returns a copy of h that says it is i. The copy shares the
// slices of h, which nothing changes.
func (h *Host) WithInstance(i Instance) *Host {
	c := *h
	c.Instance = i
	return &c
}

// thisPlatform is the machine the process runs on.
func thisPlatform() platform {
	return platform{
		os:          runtime.GOOS,
		arch:        runtime.GOARCH,
		root:        systemRoot(),
		cpu:         readProcessor,
		affinity:    processAffinity,
		cpusAtStart: runtime.NumCPU(),
		kernel:      kernelRelease,
		memlock:     memlockLimit,
		gpus:        askNVML,
	}
}

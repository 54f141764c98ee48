//go:build linux && cgo

package hw

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// nvmlTurn admits one caller at a time: go-nvml binds the library's symbols to
// package-level variables of its own when it loads and unloads. A call that
// hangs in the driver keeps its turn, so at most one thread is ever lost.
var nvmlTurn = make(chan struct{}, 1)

// askNVML loads the driver's library, asks, and unloads it.
func askNVML(ctx context.Context) GPUReport {
	select {
	case nvmlTurn <- struct{}{}:
		defer func() { <-nvmlTurn }()
	case <-ctx.Done():
		return GPUReport{Reason: "an earlier question to the NVIDIA driver is still unanswered"}
	}
	return askNVMLThrough(nvml.New())
}

// nvmlSymbols are the functions called below. The library is bound lazily: one
// that is missing would end the process at the call, so all are looked up
// first.
var nvmlSymbols = []string{
	"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetName", "nvmlDeviceGetUUID",
	"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCudaComputeCapability",
	"nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion",
}

// migSymbols are those that only drivers since 450 have, for GPUs that were cut into instances.
var migSymbols = []string{"nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex"}

// maxGPUs bounds what a broken driver may claim, maxMIG what it may of one GPU.
const (
	maxGPUs = 64
	maxMIG  = 64
)

// askNVMLThrough asks lib. Whatever can be learnt is in the report; whatever
// cannot has a reason, of the report or of the GPU.
func askNVMLThrough(lib nvml.Interface) GPUReport {
	switch ret := lib.Init(); ret {
	case nvml.SUCCESS:
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return GPUReport{Reason: "the NVIDIA driver is loaded but libnvidia-ml.so.1 cannot be opened; install the driver's libraries, or let the container runtime mount them (NVIDIA_DRIVER_CAPABILITIES=utility,compute)"}
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return GPUReport{Reason: "the NVIDIA driver in the kernel and its libraries are of different versions; restart the host after the driver update"}
	default:
		return GPUReport{Reason: "NVML does not start: " + describe(lib, ret)}
	}
	// A driver that does not shut down is none of the caller's business.
	defer func() { _ = lib.Shutdown() }()

	for _, name := range nvmlSymbols {
		if err := lib.Extensions().LookupSymbol(name); err != nil {
			return GPUReport{Reason: fmt.Sprintf("the NVIDIA driver is too old: its NVML has no %s; install driver 418 or newer", name)}
		}
	}
	count, ret := lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return GPUReport{Reason: "NVML does not say how many GPUs there are: " + describe(lib, ret)}
	}
	if count <= 0 {
		return GPUReport{Reason: "an NVIDIA driver is loaded but it shows this process no GPU"}
	}

	var report GPUReport
	if count > maxGPUs {
		report.Reason = fmt.Sprintf("NVML claims %d GPUs; only the first %d are listed", count, maxGPUs)
		count = maxGPUs
	}
	driver, cuda, missing := versions(lib)
	for i := range count {
		g := askDevice(lib, i)
		g.Driver, g.CUDA = driver, cuda
		g.Reason = join(g.Reason, missing)
		report.GPUs = append(report.GPUs, g)
		if g.Reason != "" {
			report.Reason = join(report.Reason, fmt.Sprintf("GPU %d: %s", i, g.Reason))
		}
	}
	return report
}

// versions returns those of the driver and of CUDA as the driver has it.
func versions(lib nvml.Interface) (driver, cuda, reason string) {
	driver, ret := lib.SystemGetDriverVersion()
	if ret != nvml.SUCCESS {
		driver, reason = "", "the driver version is unknown: "+describe(lib, ret)
	}
	v, ret := lib.SystemGetCudaDriverVersion()
	if ret != nvml.SUCCESS {
		return driver, "", join(reason, "the CUDA version is unknown: "+describe(lib, ret))
	}
	// 12040 is 12.4.
	return driver, fmt.Sprintf("%d.%d", v/1000, v%1000/10), reason
}

func askDevice(lib nvml.Interface, index int) GPU {
	g := GPU{Index: index}
	device, ret := lib.DeviceGetHandleByIndex(index)
	if ret != nvml.SUCCESS {
		g.Reason = "it cannot be opened: " + describe(lib, ret)
		return g
	}
	note := func(what string, ret nvml.Return) {
		g.Reason = join(g.Reason, what+" is unknown: "+describe(lib, ret))
	}
	if name, ret := device.GetName(); ret == nvml.SUCCESS {
		g.Name = name
	} else {
		note("its name", ret)
	}
	if uuid, ret := device.GetUUID(); ret == nvml.SUCCESS {
		g.UUID = uuid
	} else {
		note("its UUID", ret)
	}
	if memory, ret := device.GetMemoryInfo(); ret == nvml.SUCCESS {
		g.Memory = memory.Total
	} else {
		note("its memory", ret)
	}
	if major, minor, ret := device.GetCudaComputeCapability(); ret == nvml.SUCCESS {
		g.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
	} else {
		note("its compute capability", ret)
	}
	if !slices.ContainsFunc(migSymbols, func(name string) bool { return lib.Extensions().LookupSymbol(name) != nil }) {
		g.MIG = askMIG(device)
	}
	return g
}

// askMIG lists the instances of a GPU; none where it is not cut into any.
func askMIG(device nvml.Device) (all []MIGInstance) {
	if mode, _, ret := device.GetMigMode(); ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return nil
	}
	count, ret := device.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	for i := range min(count, maxMIG) {
		part, ret := device.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // this place is empty
		}
		var m MIGInstance
		if m.UUID, ret = part.GetUUID(); ret != nvml.SUCCESS {
			continue // nobody could ask for it
		}
		m.Name, _ = part.GetName()
		if memory, ret := part.GetMemoryInfo(); ret == nvml.SUCCESS {
			m.Memory = memory.Total
		}
		all = append(all, m)
	}
	return all
}

func describe(lib nvml.Interface, ret nvml.Return) string {
	if text := lib.ErrorString(ret); text != "" {
		return strings.ToLower(text)
	}
	return fmt.Sprintf("NVML return code %d", int(ret))
}

// join puts two reasons into one.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

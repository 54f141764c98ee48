//go:build !(linux && cgo)

package hw

import (
	"context"
	"runtime"
)

// askNVML says why this build cannot ask: go-nvml needs cgo, and the driver's
// library is looked for on Linux.
func askNVML(context.Context) GPUReport {
	if runtime.GOOS != "linux" {
		return GPUReport{Reason: "GPUs are looked for on Linux only, and this is " + runtime.GOOS}
	}
	return GPUReport{Reason: "an NVIDIA driver is loaded but this program was built without cgo, which NVML needs; use the cgo build"}
}

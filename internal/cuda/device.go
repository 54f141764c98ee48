package cuda

import (
	"fmt"
	"unsafe"
)

// Device is what the driver says of one of its devices: a GPU, or a part of one that MIG has cut off.
type Device struct {
	Ordinal int // the driver's own, which CUDA_VISIBLE_DEVICES changes
	Name    string
	UUID    string // "GPU-..." or "MIG-...", as NVML and nvidia-smi have it
	Memory  uint64 // bytes
	// Major and Minor are the compute capability.
	Major, Minor int
	// Processors is how many multiprocessors it has, Shared how many bytes of shared memory one block may have.
	Processors, Shared int
}

// ComputeCapability is Major and Minor as package hw has them, "8.0".
func (d Device) ComputeCapability() string { return fmt.Sprintf("%d.%d", d.Major, d.Minor) }

// uuid is the text form of 16 bytes behind a prefix.
func uuid(prefix string, b [16]byte) string {
	return fmt.Sprintf("%s%x-%x-%x-%x-%x", prefix, b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// MinVersion is the oldest CUDA version that a driver must support, as cuDriverGetVersion has it: 11.4, driver 470 of 2021. It is what the
// functions used need; the kernels, which are PTX 6.0, would do with less.
const MinVersion = 11040

// Library is what the driver's library is called. The name without a number belongs to a toolkit.
const Library = "libcuda.so.1"

// Wait is how threads wait for a device.
type Wait int

const (
	// Spin keeps the processor busy: nothing is faster, and the core is lost to others for as long as the device computes.
	Spin Wait = iota
	// Sleep looks for as long as being woken takes, and sleeps then.
	Sleep
)

// Ptr is an address that a kernel can use: in the device's memory, or that of pinned main memory.
type Ptr uint64

// Address is where kernels find what AllocHost has given: where it is for everybody else, on every system of 64 bits.
func Address(pinned unsafe.Pointer) Ptr { return Ptr(uintptr(pinned)) }

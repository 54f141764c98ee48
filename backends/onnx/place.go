package onnx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
)

// provider is what runs a model's operators. The numbers are those of ort.h.
type provider int

const (
	cpu provider = iota
	cuda
	tensorRT
	openVINO
)

// providers are the names that people use and those that the library does.
var providers = [...]struct{ name, library string }{
	cpu:      {"cpu", "CPUExecutionProvider"},
	cuda:     {"cuda", "CUDAExecutionProvider"},
	tensorRT: {"tensorrt", "TensorrtExecutionProvider"},
	openVINO: {"openvino", "OpenVINOExecutionProvider"},
}

// place is where a model runs.
type place struct {
	provider provider
	device   int // the driver's number of the GPU, or anyGPU; 0 for others
}

// anyGPU leaves it open which.
const anyGPU = -1

// onGPU tells whether the place is a GPU, or any.
func (p place) onGPU() bool { return p.provider == cuda || p.provider == tensorRT }

// String is the place as the configuration has it: "cpu", "cuda", "cuda:1".
func (p place) String() string {
	if p.onGPU() && p.device != anyGPU {
		return fmt.Sprintf("%s:%d", providers[p.provider].name, p.device)
	}
	return providers[p.provider].name
}

// maxDevice is far above what a host has.
const maxDevice = 255

// parsePlace reads a place. auto tells that the backend is to choose, which is also what an empty text says.
func parsePlace(text string) (p place, auto bool, err error) {
	if text == "" || text == "auto" {
		return place{}, true, nil
	}
	name, device, numbered := strings.Cut(text, ":")
	for i, known := range providers {
		if known.name != name {
			continue
		}
		p.provider = provider(i)
		if !numbered {
			if p.onGPU() {
				p.device = anyGPU
			}
			return p, false, nil
		}
		p.device, err = strconv.Atoi(device)
		if err != nil || p.device < 0 || p.device > maxDevice || !p.onGPU() {
			break
		}
		return p, false, nil
	}
	return place{}, false, fmt.Errorf("provider %q is none: auto, cpu, cuda, tensorrt and openvino are, and cuda:1 is the second GPU", text)
}

// check says why the library or the host cannot run models at p, or nothing.
func (p place) check(l *library, host *hw.Host, gpus *devices.Set) error {
	if !l.has(providers[p.provider].library) {
		return fmt.Errorf("provider %s is not in this host's ONNX Runtime %s, which has %s; install a build with it", providers[p.provider].name, l.version, l.names())
	}
	if !p.onGPU() {
		return nil
	}
	if err := gpus.Open(host); err != nil {
		return fmt.Errorf("provider %s needs an NVIDIA GPU, and cannot use one: %w", providers[p.provider].name, err)
	}
	all := gpus.All()
	if p.device != anyGPU && !slices.ContainsFunc(all, p.is) {
		return fmt.Errorf("provider %s asks for a GPU that may not be used or is not there: there are %d", p, len(all))
	}
	return nil
}

// is tells whether p is on the device.
func (p place) is(d *devices.Device) bool { return p.device == anyGPU || p.device == d.Facts().Ordinal }

// names are the providers of the library as people call them.
func (l *library) names() string {
	var list []string
	for _, p := range providers {
		if l.has(p.library) {
			list = append(list, p.name)
		}
	}
	return strings.Join(list, ", ")
}

// choosePlace is where the backend runs a model that names no place: on a GPU where the library and the host have one.
// reason says why it is not, where the library could.
func choosePlace(l *library, host *hw.Host, gpus *devices.Set) (p place, reason string) {
	some := place{cuda, anyGPU}
	if !l.has(providers[cuda].library) {
		return place{}, ""
	}
	if err := some.check(l, host, gpus); err != nil {
		return place{}, err.Error()
	}
	return some, ""
}

package onnx

import (
	"fmt"
	"strconv"
	"strings"

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
	device   int // of those that the provider has; 0 for the processor
}

// String is the place as the configuration has it: "cpu", "cuda:1".
func (p place) String() string {
	if p.provider == cuda || p.provider == tensorRT {
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
			return p, false, nil
		}
		p.device, err = strconv.Atoi(device)
		if err != nil || p.device < 0 || p.device > maxDevice || p.provider == cpu || p.provider == openVINO {
			break
		}
		return p, false, nil
	}
	return place{}, false, fmt.Errorf("provider %q is none: auto, cpu, cuda, tensorrt and openvino are, and cuda:1 is the second GPU", text)
}

// check says why the library or the host cannot run models at p, or nothing.
func (p place) check(l *library, host *hw.Host) error {
	if !l.has(providers[p.provider].library) {
		return fmt.Errorf("provider %s is not in this host's ONNX Runtime %s, which has %s; install a build with it", providers[p.provider].name, l.version, l.names())
	}
	if p.provider != cuda && p.provider != tensorRT {
		return nil
	}
	if len(host.GPUs) == 0 {
		return fmt.Errorf("provider %s needs an NVIDIA GPU, and there is none: %s", providers[p.provider].name, host.GPUReason)
	}
	if p.device >= len(host.GPUs) {
		return fmt.Errorf("provider %s asks for a GPU that is not there: this host has %d", p, len(host.GPUs))
	}
	return nil
}

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
func choosePlace(l *library, host *hw.Host) (p place, reason string) {
	first := place{provider: cuda}
	if !l.has(providers[cuda].library) {
		return place{}, ""
	}
	if err := first.check(l, host); err != nil {
		return place{}, err.Error()
	}
	return first, ""
}

//go:build linux && cgo

package hw

import (
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// brokenDGX is the mock with the texts for errors, which it lacks.
func brokenDGX() *server.Server {
	s := dgxa100.New()
	s.ErrorStringFunc = nvml.ErrorString
	return s
}

func TestNVMLOnDGXA100(t *testing.T) {
	r := askNVMLThrough(dgxa100.New())
	if len(r.GPUs) != 8 || r.Reason != "" {
		t.Fatalf("%d GPUs, reason %q; want 8, none", len(r.GPUs), r.Reason)
	}
	for i, g := range r.GPUs {
		if g.Index != i || g.Name != "Mock NVIDIA A100-SXM4-40GB" ||
			g.ComputeCapability != "8.0" || g.Memory < 40e9 || !strings.HasPrefix(g.UUID, "GPU-") ||
			strings.Count(g.Driver, ".") < 1 || strings.Count(g.CUDA, ".") != 1 || g.Reason != "" {
			t.Errorf("GPU %d = %+v", i, g)
		}
	}
}

func TestNVMLListsMIGInstances(t *testing.T) {
	s := dgxa100.New()
	cut := s.Devices[3].(*server.Device)
	cut.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, nvml.DEVICE_MIG_ENABLE, nvml.SUCCESS }
	cut.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	cut.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i > 1 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return &mock.Device{
			GetUUIDFunc: func() (string, nvml.Return) { return "MIG-" + string(rune('a'+i)), nvml.SUCCESS },
			GetNameFunc: func() (string, nvml.Return) { return "Mock MIG 1g.5gb", nvml.SUCCESS },
			GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
				if i == 1 {
					return nvml.Memory{}, nvml.ERROR_NO_PERMISSION
				}
				return nvml.Memory{Total: 5 << 30}, nvml.SUCCESS
			},
		}, nvml.SUCCESS
	}
	r := askNVMLThrough(s)
	want := []MIGInstance{{"Mock MIG 1g.5gb", "MIG-a", 5 << 30}, {"Mock MIG 1g.5gb", "MIG-b", 0}}
	if len(r.GPUs) != 8 || !slices.Equal(r.GPUs[3].MIG, want) || r.GPUs[2].MIG != nil {
		t.Errorf("GPUs %+v, want %+v on number 3", r.GPUs, want)
	}
}

func TestNVMLFailsMidway(t *testing.T) {
	s := brokenDGX()
	s.SystemGetCudaDriverVersionFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	broken := s.Devices[1].(*server.Device)
	broken.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }
	open := s.DeviceGetHandleByIndexFunc
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 2 {
			return nil, nvml.ERROR_NO_PERMISSION
		}
		return open(i)
	}
	r := askNVMLThrough(s)
	if len(r.GPUs) != 8 {
		t.Fatalf("%d GPUs, want all 8", len(r.GPUs))
	}
	if g := r.GPUs[1]; g.Name == "" || g.Memory != 0 || !strings.Contains(g.Reason, "its memory is unknown") {
		t.Errorf("GPU that lost its memory = %+v", g)
	}
	if g := r.GPUs[2]; g.Driver == "" || !strings.Contains(g.Reason, "cannot be opened") {
		t.Errorf("GPU that cannot be opened = %+v", g)
	}
	if g := r.GPUs[0]; g.CUDA != "" || !strings.Contains(g.Reason, "CUDA version is unknown") {
		t.Errorf("GPU without CUDA version = %+v", g)
	}
	if !strings.Contains(r.Reason, "GPU 1: ") || !strings.Contains(r.Reason, "GPU 2: ") {
		t.Errorf("reason %q does not name the GPUs", r.Reason)
	}
}

func TestNVMLRefuses(t *testing.T) {
	for ret, want := range map[nvml.Return]string{
		nvml.ERROR_LIBRARY_NOT_FOUND:       "libnvidia-ml.so.1 cannot be opened",
		nvml.ERROR_LIB_RM_VERSION_MISMATCH: "different versions",
		nvml.ERROR_DRIVER_NOT_LOADED:       "NVML does not start",
	} {
		s := brokenDGX()
		s.InitFunc = func() nvml.Return { return ret }
		if r := askNVMLThrough(s); r.GPUs != nil || !strings.Contains(r.Reason, want) {
			t.Errorf("Init %d: %+v, want %q", ret, r, want)
		}
	}
	s := brokenDGX()
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.SUCCESS }
	if r := askNVMLThrough(s); r.GPUs != nil || !strings.Contains(r.Reason, "no GPU") {
		t.Errorf("no device: %+v", r)
	}
}

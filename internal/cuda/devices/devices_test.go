//go:build cgo && linux

package devices

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/internal/hw"
)

// withGPU is a host on which NVML has found a GPU.
var withGPU = &hw.Host{GPUs: []hw.GPU{{Name: "Fake GPU"}}}

// three are the devices of a driver that has three.
func three(t *testing.T, o Options) *Set {
	t.Helper()
	t.Setenv("FAKE_CUDA_DEVICES", "3")
	o.Library = cudatest.Library(t)
	s := New(o)
	if err := s.Open(withGPU); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(&hw.Host{}); err != nil || len(s.All()) != 3 {
		t.Fatalf("opened again: %d devices, %v", len(s.All()), err)
	}
	return s
}

// stay is a model that has nothing but its place.
type stay struct{ *Lease }

func (s stay) Signature() engine.Signature           { return engine.Signature{} }
func (s stay) NewInstance() (engine.Instance, error) { return nil, errors.New(s.Facts().UUID) }
func (s stay) Properties() (p engine.Properties) {
	p.Devices = []string{s.Facts().UUID}
	p.Instances = 2
	return p
}
func put(d *Device) (engine.Model, error) { l, err := d.Lease(); return stay{l}, err }
func (s *Set) mustPlace(t *testing.T, gpus string) engine.Model {
	t.Helper()
	m, err := s.Place(gpus, put)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPlaces: models go to the device with the fewest, and one on all devices counts on each.
func TestPlaces(t *testing.T) {
	s := three(t, Options{})
	var names []string
	for _, d := range s.All() {
		names = append(names, d.Facts().UUID)
	}
	var models []engine.Model
	for n, want := range [][]string{{names[0]}, {names[1]}, {names[2]}, {names[0]}} {
		models = append(models, s.mustPlace(t, ""))
		if got := models[n].Properties().Devices; !slices.Equal(got, want) {
			t.Errorf("model %d is on %v, want %v", n, got, want)
		}
	}
	all := s.mustPlace(t, Every)
	models = append(models, all)
	if p := all.Properties(); !slices.Equal(p.Devices, []string{names[1], names[2], names[0]}) || p.Instances != 6 {
		t.Errorf("on all: %+v", p)
	}
	for k := range 7 {
		if _, err := all.NewInstance(); err.Error() != all.Properties().Devices[k%3] {
			t.Errorf("instance %d is on %v", k, err)
		}
	}
	if _, own := all.(engine.Allocator); own {
		t.Error("models without memory of their own have some on several devices")
	}
	s.Drain(names[1], "it is to be replaced")
	s.Drain(names[1], "and again")
	if got := s.mustPlace(t, "").(stay); got.Facts().UUID != names[2] {
		t.Errorf("with one out of use: %s", got.Facts().UUID)
	} else {
		models = append(models, got)
	}
	if _, err := s.Place(names[1], put); !errors.Is(err, engine.ErrUnsupported) || !strings.HasSuffix(err.Error(), names[1]+" is out of use: it is to be replaced") {
		t.Errorf("one out of use: %v", err)
	}
	for n, want := range []int{3, 2, 3} {
		if state := s.All()[n].State(); state.Models != want {
			t.Errorf("device %d has %d models, want %d", n, state.Models, want)
		}
	}
	for _, m := range models {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSuspect: a library's error is one of a lost device where it says so or the driver does. The device is out of use then and told once.
func TestSuspect(t *testing.T) {
	var told []string
	s := three(t, Options{Lost: func(uuid, reason string) { told = append(told, uuid+": "+reason) }})
	var leases []*Lease
	for _, d := range s.All() {
		l, err := d.Lease()
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, l)
	}
	mine := errors.New("a parameter is wrong")
	if err := leases[0].Suspect(mine); err != mine || leases[0].Suspect(nil) != nil || leases[0].Lost() || len(told) != 0 { //nolint:errorlint // this very one
		t.Errorf("an error that is nothing of the device's became %v, told %q", err, told)
	}
	cudatest.Fail(t, "cuMemGetInfo_v2", 1, 719)
	if err := leases[0].Suspect(mine); !errors.Is(err, mine) || !errors.Is(err, cuda.ErrLost) || !leases[0].Lost() {
		t.Errorf("a device that does not answer: %v", err)
	}
	for range 2 {
		if err := leases[1].Suspect(&cuda.Error{Code: 700}); !errors.Is(err, cuda.ErrLost) || !leases[1].Lost() {
			t.Errorf("an error that says it: %v", err)
		}
	}
	if leases[2].Lost() || len(told) != 2 || !strings.HasPrefix(told[0], leases[0].Facts().UUID+": a parameter is wrong; ") || !strings.HasPrefix(told[1], leases[1].Facts().UUID) {
		t.Errorf("told %q", told)
	}
	// One that was drained is lost all the same, and known already.
	s.Drain(leases[2].Facts().UUID, "it is hot")
	if err := leases[2].Failed(&cuda.Error{Code: 719}); !errors.Is(err, engine.ErrHost) || !leases[2].Lost() || len(told) != 2 || leases[2].State().Out != "it is hot" {
		t.Errorf("a drained one: %v, told %q, %q", err, told, leases[2].State().Out)
	}
	for _, l := range leases {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

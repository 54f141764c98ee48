//go:build cgo && linux

package cuda

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/picket-ml/picket/internal/cuda/cudatest"
)

func TestOpenSaysWhyNot(t *testing.T) {
	library := cudatest.Library(t)
	other := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(other, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		set  func(t *testing.T)
		kind error
		want string
	}{
		"no library":        {"/nowhere/libcuda.so.1", func(*testing.T) {}, ErrAbsent, "install the driver's libraries"},
		"something else":    {other, func(*testing.T) {}, ErrAbsent, "opening library"},
		"not CUDA's":        {"libc.so.6", func(*testing.T) {}, ErrOld, "has no cuInit"},
		"it does not start": {library, func(t *testing.T) { cudatest.Fail(t, "cuInit", 1, 100) }, ErrAbsent, "starting CUDA: the CUDA driver answers fake error 100"},
		"too old":           {library, func(t *testing.T) { t.Setenv("FAKE_CUDA_VERSION", "10020") }, ErrOld, "it supports CUDA 10.2, and 11.4 is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			c.set(t)
			d, err := Open(c.path)
			if d != nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open gives %v, %v; want %q", d, err, c.want)
			}
		})
	}
}

func TestDevices(t *testing.T) {
	t.Setenv("FAKE_CUDA_DEVICES", "3")
	d, err := Open(cudatest.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	if d.Version() != 12040 {
		t.Errorf("version %d", d.Version())
	}
	all, err := d.Devices()
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	want := Device{2, "Fake GPU", "GPU-fa000000-0000-0000-0000-000000000002", 1 << 30, 8, 0, 4, 99 << 10}
	if all[2] != want || want.ComputeCapability() != "8.0" {
		t.Errorf("device 2 is %+v", all[2])
	}
	t.Setenv("FAKE_CUDA_MIG", "1")
	if all, err = d.Devices(); err != nil || !strings.HasPrefix(all[0].UUID, "MIG-") {
		t.Errorf("a part of a GPU is %+v, %v", all, err)
	}
	cudatest.Fail(t, "cuDeviceGet", 2, 101)
	if _, err := d.Devices(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "asking about device 1") {
		t.Errorf("a device that does not answer: %v", err)
	}
	cudatest.Fail(t, "cuDevicePrimaryCtxRetain", 1, 46)
	if c, err := d.Retain(want, Sleep); c != nil || !errors.Is(err, ErrLost) {
		t.Errorf("a device that is not available: %v, %v", c, err)
	}
}

// TestStream copies there and back, in order.
func TestStream(t *testing.T) {
	c := context(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const n = 4096
	device, err := c.Alloc(n)
	must(err)
	in, err := c.AllocHost(n)
	must(err)
	out, err := c.AllocHost(n)
	must(err)
	s, err := c.NewStream()
	must(err)
	before, err := c.NewEvent(true)
	must(err)
	after, err := c.NewEvent(true)
	must(err)
	pointer := func(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
	for i := range in {
		in[i] = byte(i)
	}
	must(errors.Join(s.Record(before), s.CopyIn(device, pointer(in), n), s.CopyOut(pointer(out), device, n), s.Record(after), after.Synchronize()))
	if string(out) != string(in) {
		t.Error("what came back is not what was sent")
	}
	if took, err := after.Since(before); err != nil || took < 0 {
		t.Errorf("between two events it was %v, %v", took, err)
	}
	free, total, err := c.Memory()
	if err != nil || total-free != n {
		t.Errorf("%d of %d bytes are free, %v", free, total, err)
	}
	other, err := c.NewStream()
	must(err)
	must(errors.Join(s.Record(after), other.WaitFor(after), other.Synchronize(), other.Close()))
	must(errors.Join(before.Close(), after.Close(), s.Close(), c.Free(device), c.FreeHost(in), c.FreeHost(out)))
}

// TestLoad tells the reasons apart for which the driver does not take kernels.
func TestLoad(t *testing.T) {
	c := context(t)
	m, err := c.Load([]byte(".version 6.0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Function("picket_forest_f32"); err != nil {
		t.Error(err)
	}
	if _, err := m.Function("nothing"); err == nil || !strings.Contains(err.Error(), "looking for kernel nothing") {
		t.Errorf("a kernel that is not there: %v", err)
	}
	if f, err := m.Function("picket_forest_f32"); err != nil || m.AllowShared(f, 64<<10) != nil || m.AllowShared(f, 1<<20) == nil {
		t.Errorf("shared memory is not as the device has it: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for code, want := range map[int]string{
		codeNoPTX: "does not know PTX version 6.0", codePTX: "says: ptxas fatal: what the fake was told to say", codeImage: "compute capability 7.0",
	} {
		cudatest.Fail(t, "cuModuleLoadDataEx", 1, code)
		if m, err := c.Load([]byte(".version 6.0\n")); m != nil || err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrLost) {
			t.Errorf("error %d: %v, %v; want %q", code, m, err, want)
		}
	}
}

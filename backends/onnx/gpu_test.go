//go:build cgo && linux

package onnx_test

import (
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/backends/onnx/onnxtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// The devices of the stand-in for the driver.
const (
	gpu0 = "GPU-fa000000-0000-0000-0000-000000000000"
	gpu1 = "GPU-fa000000-0000-0000-0000-000000000001"
)

// twoGPUs are the backend on a host with two GPUs that are none, and its devices.
func twoGPUs(t *testing.T, o devices.Options) (*onnx.Backend, *devices.Set, *hw.Host) {
	t.Helper()
	t.Setenv("FAKE_CUDA_DEVICES", "2")
	host := *backendtest.Options().Host
	host.GPUs = []hw.GPU{{Index: 0, UUID: gpu0}, {Index: 1, UUID: gpu1}}
	o.Library = cudatest.Library(t)
	set := devices.New(o)
	b := onnx.New(onnx.Options{LibraryPath: onnxtest.Library(t), Log: slog.New(slog.DiscardHandler), GPUs: set})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, set, &host
}

// openOn opens the small network.
func openOn(t *testing.T, b *onnx.Backend, host *hw.Host, provider, gpus string) (engine.Model, error) {
	t.Helper()
	o := backendtest.Options()
	o.Host, o.Provider, o.GPUs = host, provider, gpus
	return b.Open(t.Context(), backendtest.Artifact(t, net(t, "mlp")), o)
}

func closeModel(t *testing.T, m engine.Model) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestModelsOnGPUs: a model says which GPU it is on, goes to the one with the fewest, or to the one that is asked for, and the limit of memory
// goes with it.
func TestModelsOnGPUs(t *testing.T) {
	b, set, host := twoGPUs(t, devices.Options{Limits: cuda.Limits{Device: 1 << 28}})
	sessions := onnxtest.Log(t)
	var opened []engine.Model
	for _, c := range []struct{ provider, gpus, on, variant string }{
		{"", "", gpu0, "cuda:0"},               // both are empty, and the first is taken
		{"auto", "", gpu1, "cuda:1"},           // the other has none
		{"cuda:1", "", gpu1, "cuda:1"},         // asked for
		{"cuda", "", gpu0, "cuda:0"},           // which has fewer again
		{"cuda", gpu1, gpu1, "cuda:1"},         // by its name
		{"", gpu0 + ", " + gpu1, "", "cuda:0"}, // both
		{"cpu", "", "none", "cpu"},
	} {
		m, err := openOn(t, b, host, c.provider, c.gpus)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		opened = append(opened, m)
		p := m.Properties()
		on := strings.Join(p.Devices, " ")
		switch {
		case c.on == "" && on != gpu0+" "+gpu1 && on != gpu1+" "+gpu0, c.on == "none" && on != "", len(c.on) > 4 && on != c.on:
			t.Errorf("%+v: it is on %q", c, on)
		}
		if len(p.Devices) < 2 && p.Variant != "ONNX Runtime 1.32.0, "+c.variant {
			t.Errorf("%+v: it is %q", c, p.Variant)
		}
		if _, own := m.(engine.Allocator); own != (len(p.Devices) > 0) || p.Instances != 2*len(p.Devices) {
			t.Errorf("%+v: it has memory of its own: %v; %d instances", c, own, p.Instances)
		}
	}
	for n, want := range []int{3, 4} {
		if d := set.All()[n]; d.State().Models != want {
			t.Errorf("%s has %d models, want %d", d.Facts().UUID, d.State().Models, want)
		}
	}
	var got []string
	for _, line := range sessions() {
		got = append(got, strings.ReplaceAll(line, " arena_extend_strategy=kSameAsRequested gpu_mem_limit=268435456", ""))
	}
	if want := "session device_id=0,session device_id=1,session device_id=1,session device_id=0,session device_id=1"; !strings.HasPrefix(strings.Join(got, ","), want) || len(got) != 7 {
		t.Errorf("the sessions are %q", got)
	}
	for _, m := range opened {
		closeModel(t, m)
	}
	for _, d := range set.All() {
		if s := d.State(); s.Models != 0 || s.Pinned.InUse != 0 {
			t.Errorf("%+v after all were closed", s)
		}
	}
	for provider, say := range map[string]string{"cuda:2": "provider cuda:2 asks for a GPU that may not be used or is not there: there are 2", "tensorrt": "provider tensorrt is not in"} {
		if _, err := openOn(t, b, host, provider, ""); !errors.Is(err, engine.ErrHost) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v", provider, err)
		}
	}
	if _, err := openOn(t, b, host, "cuda:0", gpu0); !errors.Is(err, engine.ErrInvalidInput) {
		t.Errorf("a GPU that is named twice: %v", err)
	}
	if _, err := openOn(t, b, host, "cuda", "GPU-of-somebody"); !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "GPU-of-somebody") {
		t.Errorf("a GPU that is not there: %v", err)
	}
}

// predict has the engine answer the rows of the small network, and says whether its tensors were in memory of the device's pool.
func predict(t *testing.T, e *engine.Engine) (pinned bool, err error) {
	t.Helper()
	s, err := e.Acquire("net")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	input, want := numbers(t, "mlp", "input"), numbers(t, "mlp", "runtime")
	r, err := s.NewRequest(len(want))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	copy(r.Inputs[0].Bytes(), raw(input))
	if err := r.Predict(t.Context()); err != nil {
		return false, err
	}
	got, err := tensor.View[float32](r.Outputs[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if math.Abs(float64(v)-float64(want[i])) > 1e-6 {
			t.Fatalf("answer %d is %v, want %v", i, v, want[i])
		}
	}
	return cuda.Pinned(r.Inputs[0].Buffer) && cuda.Pinned(r.Outputs[0].Buffer), nil
}

// TestEngineMovesNetworks: a network is on a GPU with its tensors in pinned memory, moves to the other one when that is drained, to the processor
// when there is none, and answers the same everywhere. One that must be on a GPU stays.
func TestEngineMovesNetworks(t *testing.T) {
	b, set, host := twoGPUs(t, devices.Options{})
	e := engineOf(t, host, b)
	dir := net(t, "mlp")
	d, err := e.Load(t.Context(), "net", dir, engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Options.Instances != 2 || d.Options.MaxBatchRows < 1 || d.Options.MaxBatchRows > 1024 || !strings.Contains(d.Candidates[0].Reason, "requests are put together to") {
		t.Errorf("it has %d instances and batches of %d rows: %s", d.Options.Instances, d.Options.MaxBatchRows, d.Candidates[0].Reason)
	}
	for _, want := range []string{gpu0, gpu1, ""} {
		if on := strings.Join(d.Devices, " "); on != want {
			t.Fatalf("it is on %q, want %q", on, want)
		}
		if pinned, err := predict(t, e); err != nil || pinned != (want != "") {
			t.Errorf("on %q: pinned %v, %v", want, pinned, err)
		}
		if want == "" {
			break
		}
		set.Drain(want, "it has reported Xid 79")
		if d, err = e.Reopen(t.Context(), "net"); err != nil {
			t.Fatal(err)
		}
	}
	if reason := d.Candidates[0].Reason; !strings.Contains(reason, "it runs on the processor: provider cuda cannot run it") || !strings.Contains(reason, "out of use: it has reported Xid 79") {
		t.Errorf("without a GPU it says %q", reason)
	}
	if _, err := e.Load(t.Context(), "must", dir, engine.ModelOptions{Provider: "cuda"}); !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "is out of use") {
		t.Errorf("with no GPU left: %v", err)
	}
}

// TestBatchesOfGPUsCanBeFixed: what the configuration says is not measured.
func TestBatchesOfGPUsCanBeFixed(t *testing.T) {
	b, _, host := twoGPUs(t, devices.Options{})
	e := engineOf(t, host, b)
	d, err := e.Load(t.Context(), "net", net(t, "mlp"), engine.ModelOptions{MaxBatchRows: 48, GPUs: devices.Every})
	if err != nil {
		t.Fatal(err)
	}
	if d.Options.MaxBatchRows != 48 || d.Options.Instances != 4 || len(d.Devices) != 2 || strings.Contains(d.Candidates[0].Reason, "put together") {
		t.Errorf("batches of %d rows in %d instances on %v: %s", d.Options.MaxBatchRows, d.Options.Instances, d.Devices, d.Candidates[0].Reason)
	}
	for range 8 { // on one instance after the other
		if pinned, err := predict(t, e); err != nil || !pinned {
			t.Errorf("pinned %v, %v", pinned, err)
		}
	}
}

// TestLostGPU: when the library says, or the driver does when it is asked, that the device is lost, the run fails in a sentence, it is told once, the
// model is closed without its session being taken down, and the next is opened elsewhere. A lack of memory is no such thing.
func TestLostGPU(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		call string // of the driver that fails then
		lost bool
		kind error
		says string
	}{
		"the library says so": {"Non-zero status code returned while running Gemm node. Name:'' Status Message: CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=h ; file=/onnxruntime_src/x.cc ; line=1 ; expr=cudaGetLastError()", "", true,
			engine.ErrRun, "CUDA failure 719: unspecified launch failure"},
		"the driver says so": {"CUBLAS failure 13: the GPU program failed to execute ; GPU=0", "cuMemGetInfo_v2", true, engine.ErrRun, "CUDA_ERROR_LAUNCH_FAILED"},
		"another mistake":    {"CUDNN failure 3: bad parameter", "", false, engine.ErrRun, "CUDNN failure 3"},
		"no memory":          {"Failed to allocate memory for requested buffer of size 1099511627776", "", false, engine.ErrMemory, "Failed to allocate memory"},
		"no memory in CUDA":  {"CUDA failure 2: out of memory ; GPU=0", "", false, engine.ErrMemory, "CUDA failure 2: out of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var told []string
			b, _, host := twoGPUs(t, devices.Options{Lost: func(uuid, _ string) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, uuid)
			}})
			m, err := openOn(t, b, host, "cuda:0", "")
			if err != nil {
				t.Fatal(err)
			}
			x := raw(numbers(t, "mlp", "input")[:30])
			if _, err := tryCall(t, m, 1, x); err != nil {
				t.Fatal(err)
			}
			onnxtest.Fail(t, "run", "0", c.text)
			if c.call != "" {
				cudatest.Fail(t, c.call, 1, 719)
			}
			for range 2 {
				_, err := tryCall(t, m, 1, x)
				if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hostname") {
					t.Errorf("the run fails with %v", err)
				}
			}
			onnxtest.Fail(t, "run", "0", "")
			t.Setenv("FAKE_CUDA_FAIL", "")
			mu.Lock()
			if want := map[bool]string{true: gpu0, false: ""}[c.lost]; strings.Join(told, " ") != want {
				t.Errorf("told of %q", told)
			}
			mu.Unlock()
			next, err := openOn(t, b, host, "cuda", "")
			if err != nil {
				t.Fatal(err)
			}
			if on := next.Properties().Devices[0]; on != gpu1 {
				t.Errorf("the next model is on %s", on)
			}
			closeModel(t, next)
			again, err := openOn(t, b, host, "cuda:0", "")
			if (err != nil) != c.lost {
				t.Errorf("the same GPU: %v", err)
			}
			if err == nil {
				closeModel(t, again)
			}
			closeModel(t, m)
		})
	}
}

// TestGPUThatCannot: a model that one GPU has no memory for goes to the next, with "all" is on the others, and to the processor where none has.
func TestGPUThatCannot(t *testing.T) {
	b, _, host := twoGPUs(t, devices.Options{})
	onnxtest.Fail(t, "open", "0", "CUDA failure 2: out of memory ; GPU=0")
	for gpus, noted := range map[string]bool{"": false, devices.Every: true} {
		m, err := openOn(t, b, host, "", gpus)
		if err != nil {
			t.Fatal(err)
		}
		p := m.Properties()
		if strings.Join(p.Devices, " ") != gpu1 || (len(p.Notes) == 1 && strings.Contains(p.Notes[0].Text, "it is not on "+gpu0)) != noted {
			t.Errorf("%q: it is on %v: %+v", gpus, p.Devices, p.Notes)
		}
		closeModel(t, m)
	}
	if _, err := openOn(t, b, host, "cuda:0", ""); !errors.Is(err, engine.ErrMemory) {
		t.Errorf("a GPU without memory: %v", err)
	}
}

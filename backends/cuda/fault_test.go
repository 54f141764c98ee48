//go:build cgo && linux

package cuda

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// calls are those of the driver that opening and running a model makes and that can fail.
var calls = []string{
	"cuDevicePrimaryCtxRetain", "cuModuleLoadDataEx", "cuModuleGetFunction", "cuFuncSetAttribute", "cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamCreate",
	"cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize", "cuLaunchKernel",
}

// TestEveryCallFails has each of the driver's functions fail once with a lack of memory, at every place where it is called. What was being done
// fails with one sentence, nothing stays taken, and afterwards the same works.
func TestEveryCallFails(t *testing.T) {
	f := testkit.ModelNamed(t, "binary-3.2.0")
	dir := testkit.Alone(t, f.Files[0])
	rows := testkit.Rows(minChunk+100, f.Features)
	e, err := parse(t, f.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	want := predictions(t, e, rows)
	use := func(b *Backend) error {
		m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
		if err != nil {
			return err
		}
		defer m.Close()
		m.(*model).chunk = minChunk
		i, err := m.NewInstance()
		if err != nil {
			return err
		}
		defer i.Close()
		for _, n := range []int{100, 100, minChunk + 100} {
			in, out := tensorOf(t, m.(*model), n, f.Features, false), tensorOf(t, m.(*model), n, 1, false)
			defer in.Buffer.Release()
			defer out.Buffer.Release()
			copy(in.Bytes(), tensor.AsBytes(rows[:n*f.Features]))
			if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); err != nil {
				return err
			}
			if got, err := tensor.View[float32](out); err != nil || !slices.EqualFunc(got, want[:n], sameBits) {
				t.Errorf("%d rows are answered differently, %v", n, err)
			}
		}
		return nil
	}
	b := fake(t, devices.Options{})
	before := cuda.Live()
	for _, call := range calls {
		failed := 0
		for n := 1; n <= 24; n++ {
			cudatest.Fail(t, call, n, 2)
			err := use(b)
			if now := cuda.Live(); now != before {
				t.Fatalf("after call %d of %s failed, %d things of the driver's are left", n, call, now-before)
			}
			if err == nil {
				continue // it is not called as often
			}
			failed++
			kinds := 0
			for _, kind := range []error{engine.ErrArtifact, engine.ErrHost, engine.ErrMemory, engine.ErrUnsupported} {
				if errors.Is(err, kind) {
					kinds++
				}
			}
			if kinds != 1 || !errors.Is(err, engine.ErrMemory) || strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("call %d of %s: %v", n, call, err)
			}
			if d := b.set.All()[0].State(); d.Out != "" || d.Models != 0 {
				t.Errorf("call %d of %s: a lack of memory leaves the device %+v", n, call, d)
			}
		}
		if failed == 0 {
			t.Errorf("%s never failed", call)
		}
		t.Setenv("FAKE_CUDA_FAIL", "")
		if err := use(b); err != nil {
			t.Errorf("after %s failed: %v", call, err)
		}
	}
}

// TestLostDevice breaks the context in the middle of a run: the run fails with a sentence, it is told once, what comes after fails too, and
// the next model is opened on the other device.
func TestLostDevice(t *testing.T) {
	t.Setenv("FAKE_CUDA_DEVICES", "2")
	f := testkit.ModelNamed(t, "binary-3.2.0")
	dir := testkit.Alone(t, f.Files[0])
	var mu sync.Mutex
	var lost []string
	b := fake(t, devices.Options{Lost: func(uuid, reason string) {
		mu.Lock()
		defer mu.Unlock()
		lost = append(lost, uuid+" "+reason)
	}})
	first, second := backendtest.Open(t, b, dir), backendtest.Open(t, b, dir)
	if a, z := deviceOf(first), deviceOf(second); a == z {
		t.Errorf("two models are on one device of two, %s", a)
	}
	rows := testkit.Rows(minChunk+1, f.Features)
	run := func(m engine.Model, n int) error {
		i, err := m.NewInstance()
		if err != nil {
			return err
		}
		defer func() {
			if err := i.Close(); err != nil {
				t.Errorf("closing an instance: %v", err)
			}
		}()
		in, out := tensorOf(t, m.(*model), n, f.Features, true), tensorOf(t, m.(*model), n, 1, true)
		defer in.Buffer.Release()
		defer out.Buffer.Release()
		copy(in.Bytes(), tensor.AsBytes(rows[:n*f.Features]))
		return i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n)
	}
	// Made while the device is well, closed when it is not.
	idle, err := first.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	cudatest.Fail(t, "kernel", 1, 719)
	err = run(first, len(rows)/f.Features)
	if !errors.Is(err, engine.ErrHost) || !errors.Is(err, cuda.ErrLost) || !strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_FAILED") {
		t.Errorf("a kernel that fails: %v", err)
	}
	t.Setenv("FAKE_CUDA_FAIL", "")
	mu.Lock()
	if len(lost) != 1 || !strings.HasPrefix(lost[0], deviceOf(first)+" ") {
		t.Errorf("told of %q", lost)
	}
	mu.Unlock()
	if err := idle.Close(); err != nil {
		t.Errorf("closing an instance on a lost device: %v", err)
	}
	if err := run(second, 3); err != nil {
		t.Errorf("the other device: %v", err)
	}
	for range 3 {
		if m := backendtest.Open(t, b, dir); deviceOf(m) != deviceOf(second) {
			t.Error("a model was opened on a lost device")
		}
	}
	b.set.Drain(deviceOf(second), "GPU has reported Xid 79")
	_, err = b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
	if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "out of use: ") {
		t.Errorf("with no device left: %v", err)
	}
	if err := run(second, 3); err != nil {
		t.Errorf("a drained device does not run what is on it: %v", err)
	}
}

// deviceOf is the only device of a model.
func deviceOf(m engine.Model) string { return strings.Join(m.Properties().Devices, " ") }

// folders is a Source of folders.
type folders struct{}

func (folders) Open(_ context.Context, url string) (*engine.Artifact, error) {
	root, err := os.OpenRoot(url)
	if err != nil {
		return nil, err
	}
	return engine.NewArtifact(url, root)
}

// slow is backend forest on a processor so slow that even a GPU that is none is faster.
type slow struct{ *forest.Backend }

type slowModel struct{ engine.Model }

type slowInstance struct{ engine.Instance }

func (s slow) Open(ctx context.Context, a *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	m, err := s.Backend.Open(ctx, a, o)
	if err != nil {
		return nil, err
	}
	return slowModel{m}, nil
}

func (m slowModel) NewInstance() (engine.Instance, error) {
	i, err := m.Model.NewInstance()
	if err != nil {
		return nil, err
	}
	return slowInstance{i}, nil
}

func (i slowInstance) Run(in, out []tensor.Tensor, rows int) error {
	time.Sleep(30 * time.Millisecond)
	return i.Instance.Run(in, out, rows)
}

// TestEngineMovesModels serves a model on two fake GPUs in turn and then on the processor, as one after the other is lost: the engine chooses
// the GPU because it is faster, gives its requests pinned memory, fails runs on a lost device with a sentence, and has the same answers after
// each move. Other models do not notice.
func TestEngineMovesModels(t *testing.T) {
	t.Setenv("FAKE_CUDA_DEVICES", "2")
	f := testkit.ModelNamed(t, "binary-3.2.0")
	parsed, err := parse(t, f.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := testkit.Alone(t, f.Files[0])
	b := fake(t, devices.Options{})
	e, err := engine.New(engine.Options{Host: backendtest.Options().Host, Backends: []engine.Backend{slow{forest.New()}, onFake{b}}, Source: folders{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	options := engine.ModelOptions{ExpectedRows: 64, Instances: 1, MaxBatchRows: 128}
	loaded, err := e.Load(t.Context(), "fraud", dir, options)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Backend != "cuda" || len(loaded.Devices) != 1 {
		t.Fatalf("chosen is %s on %q: %+v", loaded.Backend, loaded.Devices, loaded.Candidates)
	}
	const n = 64
	rows := testkit.Rows(n, f.Features)
	want := predictions(t, parsed, rows)
	predict := func() (pinned bool, err error) {
		s, err := e.Acquire("fraud")
		if err != nil {
			return false, err
		}
		defer s.Release()
		r, err := s.NewRequest(n)
		if err != nil {
			return false, err
		}
		defer r.Release()
		copy(r.Inputs[0].Bytes(), tensor.AsBytes(rows))
		if err := r.Predict(t.Context()); err != nil {
			return false, err
		}
		if got, err := tensor.View[float32](r.Outputs[0]); err != nil || !slices.EqualFunc(got, want, sameBits) {
			t.Errorf("the answers differ, %v", err)
		}
		return r.Inputs[0].Buffer.Owner() != nil && r.Outputs[0].Buffer.Owner() != nil, nil
	}
	seen := map[string]bool{}
	for range 2 {
		if pinned, err := predict(); err != nil || !pinned {
			t.Fatalf("on a GPU: pinned %v, %v", pinned, err)
		}
		device := loaded.Devices[0]
		if seen[device] {
			t.Fatalf("moved to %s again", device)
		}
		seen[device] = true
		cudatest.Fail(t, "kernel", 1, 719)
		if _, err := predict(); !errors.Is(err, engine.ErrRun) || !errors.Is(err, cuda.ErrLost) {
			t.Errorf("on a device that is being lost: %v", err)
		}
		t.Setenv("FAKE_CUDA_FAIL", "")
		if _, err := predict(); !errors.Is(err, engine.ErrRun) {
			t.Errorf("on a lost device: %v", err)
		}
		if loaded, err = e.Reopen(t.Context(), "fraud"); err != nil {
			t.Fatal(err)
		}
	}
	if loaded.Backend != "forest" || len(loaded.Devices) != 0 || loaded.Generation == 1 {
		t.Errorf("with no GPU left it is %s on %q", loaded.Backend, loaded.Devices)
	}
	if pinned, err := predict(); err != nil || pinned {
		t.Errorf("on the processor: pinned %v, %v", pinned, err)
	}
	if _, err := e.Reopen(t.Context(), "nothing"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("reopening what is not there: %v", err)
	}
}

// TestOneModelOnSeveralDevices: its instances are on one device after the other, take memory that is pinned for any, and when one device is lost those
// of the other go on; opened again, the model is where there is a device left.
func TestOneModelOnSeveralDevices(t *testing.T) {
	t.Setenv("FAKE_CUDA_DEVICES", "3")
	f := testkit.ModelNamed(t, "binary-3.2.0")
	parsed, err := parse(t, f.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := testkit.Alone(t, f.Files[0])
	b := fake(t, devices.Options{})
	all := b.set.All()
	first, third := all[0].Facts().UUID, all[2].Facts().UUID
	open := func(gpus string) (engine.Model, error) {
		o := backendtest.Options()
		o.GPUs = gpus
		return b.Open(t.Context(), backendtest.Artifact(t, dir), o)
	}
	m, err := open(third + "," + first)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	if got := m.Properties().Devices; !slices.Equal(got, []string{third, first}) {
		t.Fatalf("it is on %v", got)
	}
	rows := testkit.Rows(minChunk+100, f.Features)
	want := predictions(t, parsed, rows)
	n := len(want)
	in, out := pinnedBy(t, m, n*f.Features), pinnedBy(t, m, n)
	defer in.Buffer.Release()
	defer out.Buffer.Release()
	copy(in.Bytes(), tensor.AsBytes(rows))
	in.Shape, out.Shape = tensor.MustShape(int64(n), int64(f.Features)), tensor.MustShape(int64(n), 1)
	var instances []engine.Instance
	defer func() {
		for _, i := range instances {
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	used := func() (devices []int64) {
		for _, d := range all {
			devices = append(devices, d.State().Memory.InUse)
		}
		return devices
	}
	before := used()
	for range 4 {
		i, err := m.NewInstance()
		if err != nil {
			t.Fatal(err)
		}
		instances = append(instances, i)
		clear(out.Bytes())
		if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); err != nil {
			t.Fatal(err)
		}
		if got, err := tensor.View[float32](out); err != nil || !slices.EqualFunc(got, want, sameBits) {
			t.Errorf("instance %d answers differently, %v", len(instances), err)
		}
	}
	after := used()
	if after[0] <= before[0] || after[0] != after[2] || after[1] != 0 {
		t.Errorf("the devices have %v and then %v bytes in use", before, after)
	}
	cudatest.Fail(t, "kernel", 1, 719)
	if err := instances[0].Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); !errors.Is(err, cuda.ErrLost) {
		t.Errorf("on a device that is being lost: %v", err)
	}
	t.Setenv("FAKE_CUDA_FAIL", "")
	for k, i := range instances {
		if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); errors.Is(err, cuda.ErrLost) != (k%2 == 0) {
			t.Errorf("instance %d, after the first device was lost: %v", k, err)
		}
	}
	for gpus, want := range map[string][]string{devices.Every: {all[1].Facts().UUID, first}, third + "," + first: {first}} {
		next, err := open(gpus)
		if err != nil {
			t.Fatal(err)
		}
		p := next.Properties()
		if !slices.Equal(p.Devices, want) || len(p.Notes) != 1 || !strings.Contains(p.Notes[0].Text, "it is not on "+third) {
			t.Errorf("%s: it is on %v, %+v", gpus, p.Devices, p.Notes)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := open(third); !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "is out of use: ") {
		t.Errorf("on the lost device alone: %v", err)
	}
	if _, err := open("GPU-of-somebody"); !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "gpus names GPU-of-somebody") {
		t.Errorf("on a device that is not there: %v", err)
	}
}

// pinnedBy is a tensor of so many values in the model's own memory.
func pinnedBy(t *testing.T, m engine.Model, values int) tensor.Tensor {
	t.Helper()
	b, err := m.(engine.Allocator).Allocate(4 * values)
	if err != nil {
		t.Fatal(err)
	}
	x, err := tensor.In("x", tensor.FP32, tensor.MustShape(int64(values), 1), b, 0)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

//go:build cgo && linux

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/picket-ml/picket/backends/onnx/onnxtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/internal/testkit"
)

// TestSickGPUIsDrained has the daemon's part for GPUs serve declared models on two devices of a driver without a GPU: when one is called sick, what
// is on it moves to the other, trees of backend cuda as a network of backend onnx, stays declared, and is counted; when the other is lost, too, a model
// that nothing else may run stays, in words.
func TestSickGPUIsDrained(t *testing.T) {
	t.Setenv("FAKE_CUDA_DEVICES", "2")
	dir := t.TempDir()
	source, err := os.ReadFile(testkit.Path(t, testkit.ModelNamed(t, "binary-3.2.0").Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "model.json"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	out := &testkit.Output{}
	log := slog.New(slog.NewTextHandler(out, nil))
	host := hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true})
	host.GPUs, host.GPUReason = []hw.GPU{{Name: "Fake GPU"}}, ""
	c := config.Default()
	c.GPU.Library, c.GPU.Watch = cudatest.Library(t), 0
	c.Backends.ONNXRuntime = onnxtest.Library(t)
	network := filepath.Join(testkit.ModuleRoot(), "backends/onnx/testdata/nets/mlp")
	g := newGPUs(c.GPU, host, log)
	from, err := store.New(store.Options{Also: []string{dir, network}, Host: host, Unsigned: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Options{Host: host, Backends: chooseBackends(c, g.devices, log), Source: from, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	models := newDeclared(e, log, from.Locate, []config.Model{
		{Name: "one", Path: dir, Run: config.Run{Backend: "cuda"}}, {Name: "two", Path: dir, Run: config.Run{Backend: "cuda"}},
		{Name: "net", Path: network, Run: config.Run{Backend: "onnx", Provider: "cuda"}},
		{Name: "beside", Path: dir, Run: config.Run{Backend: "forest"}},
	})
	models.start(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { g.run(ctx, e, models) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	devices := func() map[string]string {
		on := map[string]string{}
		for _, m := range e.List() {
			on[m.Name] = strings.Join(m.Devices, " ")
		}
		return on
	}
	before := devices()
	if before["one"] == "" || before["two"] == "" || before["one"] == before["two"] || before["net"] == "" || before["beside"] != "" {
		t.Fatalf("the models are on %v", before)
	}
	g.drain(before["one"], "it has reported Xid 79, the GPU has fallen off the bus")
	moved := 0
	for _, on := range before {
		if on == before["one"] {
			moved++
		}
	}
	waitUntil(t, func() bool { return devices()["one"] == before["two"] && devices()["net"] == before["two"] })
	waitUntil(t, func() bool { return strings.Count(out.String(), "moved away") == moved })
	models.eachState(func(m config.Model, loaded bool, reason string) {
		if !loaded || reason != "" {
			t.Errorf("model %s is loaded %v: %q", m.Name, loaded, reason)
		}
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g)
	for name, want := range map[string]float64{"picket_gpu_moved_models_total": float64(moved)} {
		if got := gathered(t, registry, name, ""); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if sick, well := gathered(t, registry, "picket_gpu_in_use", before["one"]), gathered(t, registry, "picket_gpu_in_use", before["two"]); sick != 0 || well != 1 {
		t.Errorf("in use: the sick one %v, the other %v", sick, well)
	}
	if n := gathered(t, registry, "picket_gpu_models", before["two"]); n != 3 {
		t.Errorf("%v models on the device that is left", n)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("the metrics are not as Prometheus likes them: %v, %v", problems, err)
	}
	page := readFile(t, "../../docs/metrics.md")
	described := make(chan *prometheus.Desc, 64)
	g.Describe(described)
	close(described)
	for d := range described {
		name := regexp.MustCompile(`picket_gpu_\w+`).FindString(d.String())
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/metrics.md does not explain %s", name)
		}
	}
	g.drain(before["two"], "the next one")
	waitUntil(t, func() bool { return strings.Count(out.String(), "stays on a GPU that is out of use") >= 3 })
	if on := devices(); on["one"] != before["two"] || on["two"] != before["two"] || on["net"] != before["two"] {
		t.Errorf("models that nothing else may run are on %v", on)
	}
}

// gathered is the value of a metric, of the device with that UUID if it has any.
func gathered(t *testing.T, from prometheus.Gatherer, name, uuid string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			of := uuid == ""
			for _, l := range m.GetLabel() {
				of = of || l.GetName() == "gpu" && l.GetValue() == uuid
			}
			if f.GetName() == name && of {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of %q", name, uuid)
	return 0
}

// waitUntil waits for what happens on another goroutine; the test's own time limit ends it.
func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for !done() {
		select {
		case <-t.Context().Done():
			t.Fatal("it does not happen")
		case <-time.After(time.Millisecond):
		}
	}
}

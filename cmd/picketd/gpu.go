package main

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/gpu"
	"github.com/picket-ml/picket/internal/hw"
)

// gpus takes GPUs out of use that are sick, and moves their models. A GPU is sick when NVML says so, or when a model's run on it has found out.
// Once out of use, it stays so until the daemon is started anew: whether it is well again is for whoever repaired it to say.
type gpus struct {
	devices *devices.Set
	log     *slog.Logger
	watch   *gpu.Watch // nil where nothing is watched
	// wake has a token when there may be something to move.
	wake chan struct{}

	mu    sync.Mutex
	out   map[string]string // why, by the UUID that the driver knows
	moved uint64
}

// newGPUs makes the set of devices, and the watch where there is a GPU to be watched.
func newGPUs(c config.GPU, host *hw.Host, log *slog.Logger) *gpus {
	g := &gpus{log: log, wake: make(chan struct{}, 1), out: map[string]string{}}
	g.devices = devices.New(devices.Options{
		Library: c.Library, Use: c.Devices, Wait: c.Wait, Limits: cuda.Limits{Device: int64(c.Memory), Pinned: int64(c.Pinned)},
		Lost: func(uuid, reason string) {
			log.Error("a GPU is lost: it is not used any more", "gpu", uuid, "reason", reason)
			g.drain(uuid, reason)
		},
	})
	if len(host.GPUs) == 0 || c.Watch == 0 {
		return g
	}
	watch, err := gpu.Open(gpu.Options{Interval: c.Watch, Log: log, Sick: func(uuid string, parts []string, reason string) {
		for _, each := range append(parts, uuid) {
			g.drain(each, reason)
		}
	}})
	if err != nil {
		log.Warn("GPUs are not watched: one that is sick is found out when a model fails on it", "error", err)
		return g
	}
	g.watch = watch
	return g
}

// drain takes a device out of use and has its models moved. It does not wait.
func (g *gpus) drain(uuid, reason string) {
	g.devices.Drain(uuid, reason)
	g.mu.Lock()
	if _, known := g.out[uuid]; !known {
		g.out[uuid] = reason
	}
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default: // there is one
	}
}

// run watches, and moves models, until ctx ends.
func (g *gpus) run(ctx context.Context, e *engine.Engine, models *declared) {
	var watching sync.WaitGroup
	defer watching.Wait()
	if g.watch != nil {
		watching.Go(func() { g.watch.Run(ctx) })
	}
	pause := minPause
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
			pause = minPause
		case <-again:
			pause = min(2*pause, maxPause)
		}
		again = nil
		if g.move(ctx, e, models) > 0 {
			again = time.After(pause)
		}
	}
}

// move opens the models again that are on devices out of use, and says how many are left there.
func (g *gpus) move(ctx context.Context, e *engine.Engine, models *declared) (left int) {
	g.mu.Lock()
	out := make([]string, 0, len(g.out))
	for uuid := range g.out {
		out = append(out, uuid)
	}
	g.mu.Unlock()
	for _, m := range e.List() {
		i := slices.IndexFunc(m.Devices, func(uuid string) bool { return slices.Contains(out, uuid) })
		if i < 0 {
			continue
		}
		sick := m.Devices[i]
		if err := models.reopen(ctx, m.Name, m.Generation); err != nil {
			left++
			g.log.Error("a model stays on a GPU that is out of use: nothing else can run it", "model", m.Name, "gpu", sick, "error", err)
			continue
		}
		g.mu.Lock()
		g.moved++
		g.mu.Unlock()
		g.log.Warn("a model was moved away from a GPU that is out of use", "model", m.Name, "gpu", sick)
	}
	return left
}

func gpuDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picket_gpu_"+name, help, append([]string{"gpu"}, labels...), nil)
}

var (
	gpuInUse       = gpuDesc("in_use", "Whether models may be opened on the device: 1, or 0 once it was found sick or lost.")
	gpuModels      = gpuDesc("models", "Models on the device, of every backend.")
	gpuPool        = gpuDesc("pool_bytes", "What the pools have taken, by kind of memory and whether it is in use or kept; what ONNX Runtime takes by itself is not in it.", "memory", "state")
	gpuSick        = gpuDesc("sick", "Whether NVML's reports say that the GPU should not be used: 1 or 0.")
	gpuTemperature = gpuDesc("temperature_celsius", "Temperature of the GPU.")
	gpuPower       = gpuDesc("power_watts", "What the GPU takes.")
	gpuMemory      = gpuDesc("memory_used_bytes", "Memory of the GPU that is in use, by all programs.")
	gpuMemoryTotal = gpuDesc("memory_bytes", "Memory of the GPU.")
	gpuLoad        = gpuDesc("load_ratio", "Part of the last moments in which a kernel ran, of any program.")
	gpuUncorrected = gpuDesc("memory_errors_total", "Errors of its memory that could not be corrected, since the driver was loaded.")
	gpuThrottled   = gpuDesc("throttled", "Reasons for which its clocks are lower than they could be, while they hold.", "reason")
	gpuXids        = gpuDesc("xid_events_total", "Events that the driver reported, by number, since this process began.", "xid")
	gpuAsked       = gpuDesc("age_seconds", "How long ago the GPU answered.")
	gpuMoved       = prometheus.NewDesc("picket_gpu_moved_models_total", "Models that were moved away from GPUs out of use, since this process began.", nil, nil)
)

// Describe implements prometheus.Collector.
func (g *gpus) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		gpuInUse, gpuModels, gpuPool, gpuSick, gpuTemperature, gpuPower, gpuMemory, gpuMemoryTotal, gpuLoad, gpuUncorrected, gpuThrottled, gpuXids,
		gpuAsked, gpuMoved,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gpus) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, device := range g.devices.All() {
		d := device.State()
		gauge(gpuInUse, is(d.Out == ""), d.UUID)
		gauge(gpuModels, float64(d.Models), d.UUID)
		for _, m := range []struct {
			kind string
			u    cuda.Usage
		}{{"device", d.Memory}, {"pinned", d.Pinned}} {
			gauge(gpuPool, float64(m.u.InUse), d.UUID, m.kind, "in_use")
			gauge(gpuPool, float64(m.u.Kept), d.UUID, m.kind, "kept")
		}
	}
	g.mu.Lock()
	moved := g.moved
	g.mu.Unlock()
	counter(gpuMoved, float64(moved))
	if g.watch == nil {
		return
	}
	for _, s := range g.watch.States() {
		gauge(gpuSick, is(s.Sick != ""), s.UUID)
		for xid, n := range s.Xids {
			counter(gpuXids, float64(n), s.UUID, strconv.FormatUint(xid, 10))
		}
		if s.Asked.IsZero() {
			continue
		}
		gauge(gpuTemperature, s.Temperature, s.UUID)
		gauge(gpuPower, s.Power, s.UUID)
		gauge(gpuMemory, float64(s.MemoryUsed), s.UUID)
		gauge(gpuMemoryTotal, float64(s.MemoryTotal), s.UUID)
		gauge(gpuLoad, s.Load, s.UUID)
		counter(gpuUncorrected, float64(s.Uncorrected), s.UUID)
		for _, reason := range s.Throttled {
			gauge(gpuThrottled, 1, s.UUID, reason)
		}
		gauge(gpuAsked, max(0, time.Since(s.Asked).Seconds()), s.UUID)
	}
}

package oip

import (
	"math"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/tensor"
)

// metrics serves what a monitoring system reads.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&modelCollector{engine: s.engine},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// modelCollector reads the engine's counters when it is asked. The labels are a
// model's name and a fixed set of outcomes and phases, so that their number is
// bounded by that of the models.
type modelCollector struct{ engine *engine.Engine }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picket_"+name, help, labels, nil)
}

var (
	modelInfo       = desc("model_info", "What runs a loaded model; always 1.", "model", "version", "backend", "variant")
	modelRequests   = desc("model_requests_total", "Requests that were answered, by outcome.", "model", "outcome")
	modelRows       = desc("model_rows_total", "Rows of the requests that were answered without an error.", "model")
	modelRuns       = desc("model_runs_total", "Runs of the model, each of one request or of several together.", "model")
	modelRunRows    = desc("model_run_rows_total", "Rows of all runs.", "model")
	modelInlineRuns = desc("model_inline_runs_total", "Runs on the thread that brought the request.", "model")
	modelWaiting    = desc("model_waiting_requests", "Requests that wait for an instance now.", "model")
	modelWaitRows   = desc("model_waiting_rows", "Rows that wait for an instance now.", "model")
	modelInstances  = desc("model_instances", "Instances of the model.", "model")
	modelDuration   = desc("model_duration_seconds", "How long phases of requests took: queue from arrival to the start of the run, run of the model itself, total from arrival to the answer.", "model", "phase")
	bufferBytes     = desc("buffer_mapped_bytes", "Memory of tensors, in use or kept for reuse.")
	buffersLive     = desc("buffers_live", "Buffers of tensors in use.")
	bufferPinned    = desc("buffer_pinned_bytes", "Memory of tensors that is locked.")
)

// Describe implements prometheus.Collector.
func (c *modelCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		modelInfo, modelRequests, modelRows, modelRuns, modelRunRows, modelInlineRuns, modelWaiting, modelWaitRows,
		modelInstances, modelDuration, bufferBytes, buffersLive, bufferPinned,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *modelCollector) Collect(to chan<- prometheus.Metric) {
	usage := tensor.MemoryUsage()
	to <- prometheus.MustNewConstMetric(bufferBytes, prometheus.GaugeValue, float64(usage.Mapped))
	to <- prometheus.MustNewConstMetric(buffersLive, prometheus.GaugeValue, float64(usage.Live))
	to <- prometheus.MustNewConstMetric(bufferPinned, prometheus.GaugeValue, float64(usage.Pinned))
	for _, d := range c.engine.List() {
		model, err := c.engine.Acquire(d.Name)
		if err != nil {
			continue // unloaded since the list was made
		}
		collectModel(to, model)
		model.Release()
	}
}

func collectModel(to chan<- prometheus.Metric, model *engine.Snapshot) {
	d, stats := model.Describe(), model.Stats()
	counter := func(desc *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), append([]string{d.Name}, labels...)...)
	}
	gauge := func(desc *prometheus.Desc, v int) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), d.Name)
	}
	to <- prometheus.MustNewConstMetric(modelInfo, prometheus.GaugeValue, 1, d.Name, versionOf(d.Version), d.Backend, failure.ValidText(d.Variant))
	var failed uint64
	for outcome, n := range stats.Failed {
		failed += n
		counter(modelRequests, n, outcome)
	}
	counter(modelRequests, stats.Requests-min(failed, stats.Requests), "ok")
	counter(modelRows, stats.Rows)
	counter(modelRuns, stats.Runs)
	counter(modelRunRows, stats.RunRows)
	counter(modelInlineRuns, stats.InlineRuns)
	gauge(modelWaiting, stats.WaitingRequests)
	gauge(modelWaitRows, stats.WaitingRows)
	gauge(modelInstances, d.Options.Instances)
	collectDuration(to, d.Name, "queue", &stats.Queue)
	collectDuration(to, d.Name, "run", &stats.Run)
	collectDuration(to, d.Name, "total", &stats.Total)
}

// The buckets end at powers of two of nanoseconds, from about a microsecond to
// about 17 seconds: where the engine's own end too, so that none is split.
const firstExponent, lastExponent = 10, 34

func collectDuration(to chan<- prometheus.Metric, model, phase string, h *engine.Histogram) {
	buckets := make(map[float64]uint64, lastExponent-firstExponent+1)
	for exponent := firstExponent; exponent <= lastExponent; exponent++ {
		buckets[math.Ldexp(1e-9, exponent)] = h.Below(exponent)
	}
	to <- prometheus.MustNewConstHistogram(modelDuration, max(h.Count, h.Below(lastExponent)), h.Sum.Seconds(), buckets, model, phase)
}

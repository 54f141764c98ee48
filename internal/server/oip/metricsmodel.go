package oip

import (
	"math"
	"strconv"
	"sync"
	"weak"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

var (
	modelInfo       = desc("model_info", "What runs a loaded model; always 1.", "model", "version", "backend", "variant")
	modelGPU        = desc("model_gpu", "The GPUs that a loaded model runs on; always 1.", "model", "gpu")
	modelRequests   = desc("model_requests_total", "Requests that were answered, by outcome.", "model", "outcome")
	modelRows       = desc("model_rows_total", "Rows of the requests that were answered without an error.", "model")
	modelRuns       = desc("model_runs_total", "Runs of the model, each of one request or of several together.", "model")
	modelRunRows    = desc("model_run_rows_total", "Rows of all runs.", "model")
	modelInlineRuns = desc("model_inline_runs_total", "Runs on the thread that brought the request.", "model")
	modelWaiting    = desc("model_waiting_requests", "Requests that wait for an instance now.", "model")
	modelWaitRows   = desc("model_waiting_rows", "Rows that wait for an instance now.", "model")
	modelQueueLimit = desc("model_queue_limit_requests", "How many requests may wait; more are refused.", "model")
	modelBatchLimit = desc("model_batch_limit_rows", "The most rows that requests are put together to.", "model")
	modelInstances  = desc("model_instances", "Instances of the model.", "model")
	modelRowTime    = desc("model_row_seconds", "How long a row took when the backend was chosen, for each that was timed.", "model", "backend", "chosen")
	modelDuration   = desc("model_duration_seconds", "How long phases took: queue from a request's arrival to when an instance takes it, gather putting requests together, run one run of the model, reply from its end until the answer is taken, total from arrival to the answer.", "model", "phase")
)

// modelCollector reads the engine's counters when it is asked. The labels are a
// model's name, backends, and a fixed set of outcomes and phases, so that their
// number is bounded by that of the models.
type modelCollector struct {
	engine *engine.Engine

	mu   sync.Mutex
	seen map[weak.Pointer[engine.Snapshot]]uint64 // successes that were told, of each model that was there
}

// Describe implements prometheus.Collector.
func (c *modelCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		modelInfo, modelGPU, modelRequests, modelRows, modelRuns, modelRunRows, modelInlineRuns, modelWaiting, modelWaitRows,
		modelQueueLimit, modelBatchLimit, modelInstances, modelRowTime, modelDuration,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *modelCollector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[weak.Pointer[engine.Snapshot]]uint64)
	for _, d := range c.engine.List() {
		model, err := c.engine.Acquire(d.Name)
		if err != nil {
			continue // unloaded since the list was made
		}
		stats := model.Stats()
		self := weak.Make(model)
		seen[self] = succeeded(&stats, c.seen[self])
		collectModel(to, model, &stats, seen[self])
		model.Release()
	}
	c.seen = seen
}

// succeeded is how many requests did not fail, and no fewer than before: requests
// and failures are counted one after the other while they go on, and a counter that
// goes back by one is taken for one that began again at 0.
func succeeded(stats *engine.Stats, before uint64) uint64 {
	var failed uint64
	for _, n := range stats.Failed {
		failed += n
	}
	return max(before, stats.Requests-min(failed, stats.Requests))
}

func collectModel(to chan<- prometheus.Metric, model *engine.Snapshot, stats *engine.Stats, ok uint64) {
	d := model.Describe()
	counter := func(desc *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), append([]string{d.Name}, labels...)...)
	}
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, append([]string{d.Name}, labels...)...)
	}
	gauge(modelInfo, 1, versionOf(d.Version), d.Backend, failure.ValidText(d.Variant))
	for _, uuid := range d.Devices {
		gauge(modelGPU, 1, uuid)
	}
	for outcome, n := range stats.Failed {
		counter(modelRequests, n, outcome)
	}
	counter(modelRequests, ok, "ok")
	counter(modelRows, stats.Rows)
	counter(modelRuns, stats.Runs)
	counter(modelRunRows, stats.RunRows)
	counter(modelInlineRuns, stats.InlineRuns)
	gauge(modelWaiting, float64(stats.WaitingRequests))
	gauge(modelWaitRows, float64(stats.WaitingRows))
	gauge(modelQueueLimit, float64(d.Options.MaxQueue))
	gauge(modelBatchLimit, float64(d.Options.MaxBatchRows))
	gauge(modelInstances, float64(d.Options.Instances))
	for _, candidate := range d.Candidates {
		if candidate.USPerRow > 0 {
			gauge(modelRowTime, candidate.USPerRow/1e6, candidate.Backend, strconv.FormatBool(candidate.Chosen))
		}
	}
	collectDuration(to, d.Name, "queue", &stats.Queue)
	collectDuration(to, d.Name, "gather", &stats.Gather)
	collectDuration(to, d.Name, "run", &stats.Run)
	collectDuration(to, d.Name, "reply", &stats.Reply)
	collectDuration(to, d.Name, "total", &stats.Total)
}

// The buckets end at powers of two of nanoseconds, from 128 ns, where the smallest
// models are, to about 17 seconds: where the engine's own end too, so that none is
// split.
const firstExponent, lastExponent = 7, 34

func collectDuration(to chan<- prometheus.Metric, model, phase string, h *engine.Histogram) {
	buckets := make(map[float64]uint64, lastExponent-firstExponent+1)
	for exponent := firstExponent; exponent <= lastExponent; exponent++ {
		buckets[math.Ldexp(1e-9, exponent)] = h.Below(exponent)
	}
	to <- prometheus.MustNewConstHistogram(modelDuration, max(h.Count, h.Below(lastExponent)), h.Sum.Seconds(), buckets, model, phase)
}

package oip

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/tensor"
)

// metrics serves what a monitoring system reads; docs/metrics.md lists it.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&serverCollector{server: s},
		&modelCollector{engine: s.engine},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	registry.MustRegister(s.limits.Collectors...)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picket_"+name, help, labels, nil)
}

var (
	buildInfo     = desc("build_info", "Which daemon this is; always 1.", "version", "go_version")
	bufferBytes   = desc("buffer_mapped_bytes", "Memory of tensors, in use or kept for reuse.")
	buffersLive   = desc("buffers_live", "Buffers of tensors in use.")
	bufferPinned  = desc("buffer_pinned_bytes", "Memory of tensors that is locked.")
	declaredAll   = desc("declared_models", "Models that the configuration says should be loaded.")
	declaredNot   = desc("declared_models_missing", "Those of them that are not served as it says.")
	inFlight      = desc("in_flight_bytes", "Bytes of the requests that are worked on now, over all protocols.")
	inFlightLimit = desc("in_flight_limit_bytes", "How many such bytes there may be; what comes beyond is refused.")
	traceSpans    = desc("trace_spans_total", "Spans of traces that have ended: exported, dropped for want of room in the queue, or failed because the collector did not take them.", "outcome")
	traceWaiting  = desc("trace_waiting_spans", "Spans that wait to be sent now.")
	traceLimit    = desc("trace_queue_limit_spans", "How many spans may wait; 0 while tracing is off.")
)

var (
	connections = desc("connections", "Clients that are connected to a socket or port.", "socket")
	refused     = desc("connections_refused_total", "Clients that were disconnected before anything was read from them, by reason.", "reason", "socket")
)

// serverCollector reads what belongs to no model.
type serverCollector struct{ server *Server }

// Describe implements prometheus.Collector.
func (c *serverCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, declaredAll, declaredNot, bufferBytes, buffersLive, bufferPinned, inFlight, inFlightLimit, connections, refused, traceSpans, traceWaiting, traceLimit,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *serverCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(buildInfo, 1, failure.ValidText(c.server.version), runtime.Version())
	all, missing := c.server.declared(), int64(0)
	for _, m := range all {
		if m.Reason != "" {
			missing++
		}
	}
	gauge(declaredAll, int64(len(all)))
	gauge(declaredNot, missing)
	usage := tensor.MemoryUsage()
	gauge(bufferBytes, usage.Mapped)
	gauge(buffersLive, usage.Live)
	gauge(bufferPinned, usage.Pinned)
	limit := c.server.budget.Limit()
	gauge(inFlight, min(c.server.budget.Used(), limit))
	gauge(inFlightLimit, limit)
	spans := c.server.tracer.Counts()
	for _, o := range [...]struct {
		outcome string
		n       uint64
	}{{"exported", spans.Exported}, {"dropped", spans.Dropped}, {"failed", spans.Failed}} {
		to <- prometheus.MustNewConstMetric(traceSpans, prometheus.CounterValue, float64(o.n), o.outcome)
	}
	gauge(traceWaiting, int64(spans.Waiting))
	gauge(traceLimit, int64(spans.Limit))
	if c.server.limits.Gates == nil {
		return
	}
	for _, g := range c.server.limits.Gates.Stats() {
		socket := failure.ValidText(g.Address)
		gauge(connections, int64(g.Open), socket)
		for why, n := range g.Refused {
			to <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(n), why.String(), socket)
		}
	}
}

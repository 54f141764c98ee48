package main

import (
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// phases are those of a request, in the order in which they are shown.
var phases = [...]string{"queue", "gather", "run", "reply", "total"}

// sample is what the daemon's metrics were at a time. Counters count from when a model was loaded.
type sample struct {
	at       time.Time
	version  string
	started  float64 // seconds since 1970, by the daemon's clock
	cpu      float64 // seconds
	resident float64 // bytes
	models   map[string]*modelSample
	capture  *captureSample // nil where nothing is captured
	gpus     []gpuView      // as they are shown: nothing of them is a difference
}

// modelSample is what a sample has of one model.
type modelSample struct {
	version, backend, variant       string
	gpus                            []string
	instances, queueLimit           float64
	waitingRequests, waitingRows    float64
	outcomes                        map[string]float64
	rows, runs, runRows, inlineRuns float64
	phases                          map[string]distribution
}

// newSample takes from families what it knows; what is not there is 0.
func newSample(at time.Time, families map[string]*dto.MetricFamily) *sample {
	s := &sample{at: at, models: make(map[string]*modelSample)}
	for _, m := range families["picket_build_info"].GetMetric() {
		s.version = printable(labels(m)["version"])
	}
	s.capture, s.gpus = newCaptureSample(families), newGPUViews(families)
	single := func(name string) (v float64) {
		for _, m := range families[name].GetMetric() {
			v = value(m)
		}
		return v
	}
	s.started, s.cpu, s.resident = single("process_start_time_seconds"), single("process_cpu_seconds_total"), single("process_resident_memory_bytes")
	for _, m := range families["picket_model_info"].GetMetric() {
		l := labels(m)
		s.models[printable(l["model"])] = &modelSample{
			version: printable(l["version"]), backend: printable(l["backend"]), variant: printable(l["variant"]),
			outcomes: make(map[string]float64), phases: make(map[string]distribution),
		}
	}
	s.each(families["picket_model_requests_total"], func(m *modelSample, l map[string]string, metric *dto.Metric) {
		m.outcomes[printable(l["outcome"])] = value(metric)
	})
	s.each(families["picket_model_duration_seconds"], func(m *modelSample, l map[string]string, metric *dto.Metric) {
		m.phases[l["phase"]] = newDistribution(metric.GetHistogram())
	})
	s.each(families["picket_model_gpu"], func(m *modelSample, l map[string]string, _ *dto.Metric) { m.gpus = append(m.gpus, printable(l["gpu"])) })
	for name, field := range map[string]func(*modelSample) *float64{
		"picket_model_instances":            func(m *modelSample) *float64 { return &m.instances },
		"picket_model_queue_limit_requests": func(m *modelSample) *float64 { return &m.queueLimit },
		"picket_model_waiting_requests":     func(m *modelSample) *float64 { return &m.waitingRequests },
		"picket_model_waiting_rows":         func(m *modelSample) *float64 { return &m.waitingRows },
		"picket_model_rows_total":           func(m *modelSample) *float64 { return &m.rows },
		"picket_model_runs_total":           func(m *modelSample) *float64 { return &m.runs },
		"picket_model_run_rows_total":       func(m *modelSample) *float64 { return &m.runRows },
		"picket_model_inline_runs_total":    func(m *modelSample) *float64 { return &m.inlineRuns },
	} {
		s.each(families[name], func(m *modelSample, _ map[string]string, metric *dto.Metric) { *field(m) = value(metric) })
	}
	return s
}

// each calls take for every metric of the family that is of a model.
func (s *sample) each(family *dto.MetricFamily, take func(*modelSample, map[string]string, *dto.Metric)) {
	for _, metric := range family.GetMetric() {
		l := labels(metric)
		if m := s.models[printable(l["model"])]; m != nil {
			take(m, l, metric)
		}
	}
}

func labels(m *dto.Metric) map[string]string {
	all := make(map[string]string, len(m.GetLabel()))
	for _, pair := range m.GetLabel() {
		all[pair.GetName()] = pair.GetValue()
	}
	return all
}

// value is that of a counter or gauge; no number is 0.
func value(m *dto.Metric) float64 {
	v := m.GetGauge().GetValue()
	if m.GetCounter() != nil {
		v = m.GetCounter().GetValue()
	}
	return finite(v)
}

// finite is v, or 0 for what no daemon counts up to, so that sums and rates are numbers too.
func finite(v float64) float64 {
	const most = 1e30
	if math.IsNaN(v) || math.Abs(v) > most {
		return 0
	}
	return v
}

// since is the counters of m less those of before, and the gauges of m. Where one went back the model is another one, or
// the daemon is, and all have counted from 0.
func (m *modelSample) since(before *modelSample) *modelSample {
	if before == nil {
		return m
	}
	d := *m
	d.rows, d.runs, d.runRows, d.inlineRuns = m.rows-before.rows, m.runs-before.runs, m.runRows-before.runRows, m.inlineRuns-before.inlineRuns
	back := min(d.rows, d.runs, d.runRows, d.inlineRuns) < 0
	d.outcomes = make(map[string]float64, len(m.outcomes))
	for name, n := range m.outcomes {
		d.outcomes[name] = n - before.outcomes[name]
		back = back || d.outcomes[name] < 0
	}
	d.phases = make(map[string]distribution, len(m.phases))
	for name, p := range m.phases {
		since, same := p.since(before.phases[name])
		d.phases[name] = since
		back = back || !same
	}
	if back {
		return m
	}
	return &d
}

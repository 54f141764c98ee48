package main

import (
	"maps"
	"slices"
	"time"
)

// view is what the daemon did from one sample to the next: what top --json prints.
type view struct {
	Time     time.Time   `json:"time"`
	Interval float64     `json:"interval_s"`
	Daemon   daemonView  `json:"daemon"`
	Models   []modelView `json:"models"`
	// GPUs are those that models run on, and those that are watched; there is none where the host has none.
	GPUs []gpuView `json:"gpus,omitempty"`
	// Capture is nil where nothing is captured.
	Capture *captureView `json:"capture,omitempty"`

	first bool // of the first sample alone: nothing is known yet of what happens
}

// daemonView is what a view says of the process.
type daemonView struct {
	Socket   string  `json:"socket"`
	Version  string  `json:"version"`
	Uptime   float64 `json:"uptime_s"`
	Cores    float64 `json:"cpu_cores"` // that were busy, on average
	Resident float64 `json:"resident_bytes"`
}

// modelView is what a view says of one model. Rates are those of the interval.
type modelView struct {
	Name       string               `json:"name"`
	Version    string               `json:"version"`
	Backend    string               `json:"backend"`
	Variant    string               `json:"variant"`
	GPUs       []string             `json:"gpus"` // that run it; empty for the processor
	Instances  float64              `json:"instances"`
	Requests   float64              `json:"requests_per_s"`
	Rows       float64              `json:"rows_per_s"`
	Runs       float64              `json:"runs_per_s"`
	InlineRuns float64              `json:"inline_runs_per_s"`
	RowsPerRun *float64             `json:"rows_per_run"` // null where nothing was run
	Refused    float64              `json:"refused_per_s"`
	Errors     float64              `json:"errors_per_s"`
	Outcomes   map[string]float64   `json:"outcomes_per_s"`
	Waiting    float64              `json:"waiting_requests"`
	WaitRows   float64              `json:"waiting_rows"`
	QueueLimit float64              `json:"queue_limit_requests"`
	Phases     map[string]phaseView `json:"phases"`
}

// phaseView is how long a phase took, in seconds; null where there was none.
type phaseView struct {
	Rate float64  `json:"per_s"`
	Mean *float64 `json:"mean_s"`
	P50  *float64 `json:"p50_s"`
	P99  *float64 `json:"p99_s"`
}

// newView is what happened from before to now, models by name. Nil before: nothing is known.
func newView(before, now *sample) *view {
	v := &view{Time: now.at.UTC(), Models: []modelView{}, GPUs: now.gpus, first: before == nil}
	v.Daemon = daemonView{Version: now.version, Resident: now.resident}
	if now.started > 0 {
		v.Daemon.Uptime = max(0, float64(now.at.UnixNano())/1e9-now.started)
	}
	if before == nil {
		before = &sample{at: now.at, cpu: now.cpu, models: now.models}
	}
	seconds := max(now.at.Sub(before.at), time.Microsecond).Seconds()
	v.Interval = seconds
	v.Daemon.Cores = now.cpu - before.cpu
	if now.started != before.started && now.cpu < before.cpu { // it was started again
		v.Daemon.Cores = now.cpu
	}
	v.Daemon.Cores = max(0, v.Daemon.Cores) / seconds
	v.Capture = newCaptureView(before.capture, now.capture, seconds)
	for _, name := range slices.Sorted(maps.Keys(now.models)) {
		v.Models = append(v.Models, newModelView(name, now.models[name].since(before.models[name]), seconds))
	}
	return v
}

func newModelView(name string, m *modelSample, seconds float64) modelView {
	v := modelView{
		Name: name, Version: m.version, Backend: m.backend, Variant: m.variant, GPUs: append([]string{}, m.gpus...), Instances: m.instances,
		Rows: m.rows / seconds, Runs: m.runs / seconds, InlineRuns: m.inlineRuns / seconds,
		Waiting: m.waitingRequests, WaitRows: m.waitingRows, QueueLimit: m.queueLimit,
		Outcomes: make(map[string]float64, len(m.outcomes)), Phases: make(map[string]phaseView, len(phases)),
	}
	if m.runs > 0 {
		mean := m.runRows / m.runs
		v.RowsPerRun = &mean
	}
	for outcome, n := range m.outcomes {
		rate := n / seconds
		v.Outcomes[outcome] = rate
		v.Requests += rate
		switch outcome {
		case "ok", "canceled": // a client that leaves is no failure of the daemon's
		case "busy", "memory":
			v.Refused += rate
		default:
			v.Errors += rate
		}
	}
	for _, phase := range phases {
		d := m.phases[phase]
		p := phaseView{Rate: d.count / seconds}
		if d.count > 0 {
			mean := d.sum / d.count
			p.Mean = &mean
		}
		if q, ok := d.quantile(0.5); ok {
			p.P50 = &q
		}
		if q, ok := d.quantile(0.99); ok {
			p.P99 = &q
		}
		v.Phases[phase] = p
	}
	return v
}

// orderByRequests puts the models first that answer the most requests.
func (v *view) orderByRequests() {
	slices.SortStableFunc(v.Models, func(a, b modelView) int {
		switch {
		case a.Requests > b.Requests:
			return -1
		case a.Requests < b.Requests:
			return 1
		}
		return 0
	})
}

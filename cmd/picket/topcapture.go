package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// captureSample is what a sample has of captured requests: counters since the spool was made, and gauges.
type captureSample struct {
	accepted, uploaded, dropped, refused float64
	onDisk, bytes, limit, oldest         float64
	stopped                              bool
	state                                string // of the uploader; empty where records stay
	stateSeconds                         float64
	failed                               map[string]float64 // by reason
}

// captureView is what a view says of captured requests.
type captureView struct {
	Accepted float64 `json:"accepted_per_s"`
	Uploaded float64 `json:"uploaded_per_s"`
	Dropped  float64 `json:"dropped_per_s"`
	Refused  float64 `json:"refused_per_s"`
	OnDisk   float64 `json:"on_disk_records"`
	Bytes    float64 `json:"on_disk_bytes"`
	Limit    float64 `json:"limit_bytes"`
	Oldest   float64 `json:"oldest_s"`
	Stopped  bool    `json:"stopped"`
	// State is the uploader's, for StateSeconds; empty where records stay on this host. Reasons are those of the attempts
	// that failed since the last refresh.
	State        string   `json:"upload_state"`
	StateSeconds float64  `json:"upload_state_s"`
	Reasons      []string `json:"upload_failures"`
}

// newCaptureSample is nil where nothing is captured.
func newCaptureSample(families map[string]*dto.MetricFamily) *captureSample {
	if families["picket_capture_spool_open"] == nil {
		return nil
	}
	sum := func(name string) (v float64) {
		for _, m := range families[name].GetMetric() {
			v += value(m)
		}
		return v
	}
	s := &captureSample{
		accepted: sum("picket_capture_accepted_records_total"), uploaded: sum("picket_capture_uploaded_records_total"),
		dropped: sum("picket_capture_dropped_records_total"), refused: sum("picket_capture_refused_records_total"),
		onDisk: sum("picket_capture_on_disk_records"), bytes: sum("picket_capture_spool_bytes"), limit: sum("picket_capture_spool_limit_bytes"),
		oldest: sum("picket_capture_spool_oldest_seconds"), stopped: sum("picket_capture_spool_stopped") > 0,
		stateSeconds: sum("picket_upload_state_seconds"), failed: map[string]float64{},
	}
	for _, m := range families["picket_upload_state"].GetMetric() {
		if value(m) > 0 {
			s.state = printable(labels(m)["state"])
		}
	}
	for _, m := range families["picket_upload_failures_total"].GetMetric() {
		s.failed[printable(labels(m)["reason"])] = value(m)
	}
	return s
}

// newCaptureView is what happened from before to now. Where a counter went back, another process has begun.
func newCaptureView(before, now *captureSample, seconds float64) *captureView {
	if now == nil {
		return nil
	}
	rate := func(before, now float64) float64 {
		if now < before {
			before = 0
		}
		return (now - before) / seconds
	}
	if before == nil {
		before = now
	}
	v := &captureView{
		Accepted: rate(before.accepted, now.accepted), Uploaded: rate(before.uploaded, now.uploaded), Dropped: rate(before.dropped, now.dropped),
		Refused: rate(before.refused, now.refused), OnDisk: now.onDisk, Bytes: now.bytes, Limit: now.limit, Oldest: now.oldest, Stopped: now.stopped,
		State: now.state, StateSeconds: now.stateSeconds, Reasons: []string{},
	}
	for _, reason := range slices.Sorted(maps.Keys(now.failed)) {
		if now.failed[reason] > before.failed[reason] {
			v.Reasons = append(v.Reasons, reason)
		}
	}
	return v
}

// line is the view in one line. first: of the first sample alone.
func (v *captureView) line(first bool) tableLine {
	kind := plainLine
	var b strings.Builder
	fmt.Fprintf(&b, "capture: %s records on disk (%.1f of %.0f MiB", shortNumber(v.OnDisk), v.Bytes/(1<<20), v.Limit/(1<<20))
	if v.OnDisk > 0 {
		fmt.Fprintf(&b, ", the oldest %s old", (time.Duration(v.Oldest) * time.Second).String())
	}
	b.WriteByte(')')
	if !first {
		fmt.Fprintf(&b, ", %s/s in, %s/s out", shortNumber(v.Accepted), shortNumber(v.Uploaded))
	}
	if lost := v.Dropped + v.Refused; lost > 0 {
		kind = failingLine
		fmt.Fprintf(&b, ", %s/s dropped", shortNumber(lost))
	}
	if v.Stopped {
		kind = failingLine
		b.WriteString(", stopped: the spool is full")
	}
	since := (time.Duration(v.StateSeconds) * time.Second).String()
	switch v.State {
	case "":
	case "retrying", "blocked":
		kind = max(kind, refusingLine)
		fmt.Fprintf(&b, "; upload %s for %s", v.State, since)
		if len(v.Reasons) > 0 {
			fmt.Fprintf(&b, " (%s)", strings.Join(v.Reasons, ", "))
		}
	case "window":
		b.WriteString("; upload waits for its window")
	default:
		fmt.Fprintf(&b, "; upload %s", v.State)
	}
	return tableLine{b.String(), kind}
}

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// gpuView is what a view says of one GPU, or of one part that MIG has cut off; null for what is not known of it, as where GPUs are not watched.
type gpuView struct {
	UUID string `json:"uuid"`
	// InUse tells whether models may be opened on it; null for one that the daemon has not been shown by the driver.
	InUse  *bool    `json:"in_use"`
	Models *float64 `json:"models"`
	// Sick tells whether its reports say that it should not be used.
	Sick        *bool    `json:"sick"`
	Load        *float64 `json:"load_ratio"`
	MemoryUsed  *float64 `json:"memory_used_bytes"`
	Memory      *float64 `json:"memory_bytes"`
	Temperature *float64 `json:"temperature_celsius"`
	Power       *float64 `json:"power_watts"`
	Uncorrected *float64 `json:"memory_errors"`
	Throttled   []string `json:"throttled"`
	// Xids counts the events that the driver has reported, by number, since the daemon began.
	Xids map[string]float64 `json:"xids"`
	// Age is how long ago it has answered, in seconds.
	Age *float64 `json:"age_s"`
}

// newGPUViews are those of all GPUs that the metrics name, by their UUIDs.
func newGPUViews(families map[string]*dto.MetricFamily) []gpuView {
	all := map[string]*gpuView{}
	of := func(m *dto.Metric) *gpuView {
		uuid := printable(labels(m)["gpu"])
		if all[uuid] == nil {
			all[uuid] = &gpuView{UUID: uuid, Throttled: []string{}, Xids: map[string]float64{}}
		}
		return all[uuid]
	}
	for name, field := range map[string]func(*gpuView) **float64{
		"picket_gpu_models":              func(g *gpuView) **float64 { return &g.Models },
		"picket_gpu_load_ratio":          func(g *gpuView) **float64 { return &g.Load },
		"picket_gpu_memory_used_bytes":   func(g *gpuView) **float64 { return &g.MemoryUsed },
		"picket_gpu_memory_bytes":        func(g *gpuView) **float64 { return &g.Memory },
		"picket_gpu_temperature_celsius": func(g *gpuView) **float64 { return &g.Temperature },
		"picket_gpu_power_watts":         func(g *gpuView) **float64 { return &g.Power },
		"picket_gpu_memory_errors_total": func(g *gpuView) **float64 { return &g.Uncorrected },
		"picket_gpu_age_seconds":         func(g *gpuView) **float64 { return &g.Age },
	} {
		for _, m := range families[name].GetMetric() {
			v := value(m)
			*field(of(m)) = &v
		}
	}
	for name, field := range map[string]func(*gpuView) **bool{
		"picket_gpu_in_use": func(g *gpuView) **bool { return &g.InUse },
		"picket_gpu_sick":   func(g *gpuView) **bool { return &g.Sick },
	} {
		for _, m := range families[name].GetMetric() {
			is := value(m) > 0
			*field(of(m)) = &is
		}
	}
	for _, m := range families["picket_gpu_throttled"].GetMetric() {
		if value(m) > 0 {
			g := of(m)
			g.Throttled = append(g.Throttled, printable(labels(m)["reason"]))
		}
	}
	for _, m := range families["picket_gpu_xid_events_total"].GetMetric() {
		of(m).Xids[printable(labels(m)["xid"])] = value(m)
	}
	views := make([]gpuView, 0, len(all))
	for _, uuid := range slices.Sorted(maps.Keys(all)) {
		slices.Sort(all[uuid].Throttled)
		views = append(views, *all[uuid])
	}
	return views
}

// uuidStart is how much of a UUID tells the GPUs of a host apart, "GPU-5f2c1e0a".
const uuidStart = 12

// staleAge is how old in seconds what a GPU has last said may be before its age is shown.
const staleAge = 60

// line is the view in one line.
func (g *gpuView) line() tableLine {
	kind := plainLine
	parts := []string{}
	say := func(format string, values ...any) { parts = append(parts, fmt.Sprintf(format, values...)) }
	worse := func(to lineKind, format string, values ...any) {
		kind = max(kind, to)
		say(format, values...)
	}
	switch {
	case g.InUse != nil && !*g.InUse:
		worse(failingLine, "out of use")
	case g.Sick != nil && *g.Sick:
		worse(failingLine, "sick")
	case g.InUse != nil:
		say("in use")
	default:
		say("well")
	}
	if g.Models != nil {
		say("%s models", shortNumber(*g.Models))
	}
	if g.Load != nil {
		say("%.0f%% busy", 100**g.Load)
	}
	if g.MemoryUsed != nil && g.Memory != nil {
		say("%.1f of %.1f GiB", *g.MemoryUsed/(1<<30), *g.Memory/(1<<30))
	}
	if g.Temperature != nil {
		say("%.0f °C", *g.Temperature)
	}
	if g.Power != nil {
		say("%.0f W", *g.Power)
	}
	if len(g.Throttled) > 0 {
		worse(refusingLine, "slowed down (%s)", strings.Join(g.Throttled, ", "))
	}
	if g.Uncorrected != nil && *g.Uncorrected > 0 {
		worse(refusingLine, "%s memory errors", shortNumber(*g.Uncorrected))
	}
	if len(g.Xids) > 0 {
		var numbers []string
		for _, xid := range slices.Sorted(maps.Keys(g.Xids)) {
			numbers = append(numbers, xid+" × "+strconv.FormatFloat(g.Xids[xid], 'f', 0, 64))
		}
		say("Xid %s", strings.Join(numbers, ", "))
	}
	if g.Age != nil && *g.Age > staleAge {
		worse(refusingLine, "as of %.0f s ago", *g.Age)
	}
	return tableLine{fmt.Sprintf("%.*s: %s", uuidStart, g.UUID, strings.Join(parts, ", ")), kind}
}

package metrics

import (
	"time"
	"weak"

	"github.com/picket-ml/picket/engine"
)

// Source measures something besides what the engine counts. It is called by one
// goroutine, once for each sample, and gives what has happened since the call before.
type Source interface {
	Sample(now time.Time) []Reading
}

// Sampler takes samples of an engine and of Sources. It is for one goroutine.
type Sampler struct {
	engine  *engine.Engine
	sources []Source
	seen    map[weak.Pointer[engine.Snapshot]]engine.Stats // of each model that was there
}

// NewSampler begins now: what happened before is not in its samples, but for models
// whose every count is, because they were loaded later.
func NewSampler(e *engine.Engine, sources ...Source) *Sampler {
	return &Sampler{engine: e, sources: sources, seen: map[weak.Pointer[engine.Snapshot]]engine.Stats{}}
}

// Sample is what has happened since the sample before, and how things are now. What a
// model did between its last sample and its end is in none.
func (s *Sampler) Sample(now time.Time) []Reading {
	readings := []Reading{One(Up, Labels{}, 1)}
	loaded := 0
	seen := make(map[weak.Pointer[engine.Snapshot]]engine.Stats, len(s.seen))
	for _, d := range s.engine.List() {
		model, err := s.engine.Acquire(d.Name)
		if err != nil {
			continue // unloaded since the list was made
		}
		loaded++
		stats := model.Stats()
		self := weak.Make(model)
		before := s.seen[self]
		readings = append(readings, ofOneModel(Labels{Model: model.Name(), Version: model.Version()}, &before, &stats)...)
		seen[self] = stats
		model.Release()
	}
	s.seen = seen
	readings = append(readings, One(LoadedModels, Labels{}, float64(loaded)))
	for _, source := range s.sources {
		readings = append(readings, source.Sample(now)...)
	}
	return readings
}

// outcomes are what the engine's kinds of failure count as.
var outcomes = map[string]*Metric{
	"input": Invalid, "busy": Refused, "deadline": Refused, "memory": Refused, "canceled": Canceled, "run": Failed, "other": Failed,
}

func ofOneModel(l Labels, before, now *engine.Stats) []Reading {
	failed := map[*Metric]uint64{Failed: 0, Refused: 0, Invalid: 0, Canceled: 0}
	for kind, n := range now.Failed {
		failed[outcomes[kind]] += n - before.Failed[kind]
	}
	readings := []Reading{
		One(Requests, l, float64(now.Requests-before.Requests)),
		One(Failed, l, float64(failed[Failed])),
		One(Refused, l, float64(failed[Refused])),
		One(Invalid, l, float64(failed[Invalid])),
		One(Canceled, l, float64(failed[Canceled])),
		One(Rows, l, float64(now.Rows-before.Rows)),
		One(Waiting, l, float64(now.WaitingRequests)),
	}
	for _, d := range []struct {
		metric *Metric
		since  engine.Histogram
	}{
		{Latency, now.Total.Since(&before.Total)}, {QueueTime, now.Queue.Since(&before.Queue)}, {RunTime, now.Run.Since(&before.Run)},
	} {
		if r, ok := durations(d.metric, l, &d.since); ok {
			readings = append(readings, r)
		}
	}
	if runs := now.Runs - before.Runs; runs > 0 {
		readings = append(readings, Reading{
			Metric: BatchRows, Labels: l, Values: []float64{float64(now.RunRows-before.RunRows) / float64(runs)}, Counts: []float64{float64(runs)},
		})
	}
	return readings
}

// durations are a histogram as values in microseconds, with how often each.
func durations(m *Metric, l Labels, h *engine.Histogram) (Reading, bool) {
	r := Reading{Metric: m, Labels: l}
	h.Each(func(middle float64, count uint64) {
		r.Values, r.Counts = append(r.Values, middle/1e3), append(r.Counts, float64(count))
	})
	return r, len(r.Values) > 0
}

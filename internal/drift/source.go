package drift

import (
	"math"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/metrics"
)

// Source gives what a Watch knows to whoever sends metrics away.
type Source struct {
	watch   *Watch
	loaded  func() []engine.Description
	publish func(counts []uint64) (withheld uint64)
	told    map[string]told
}

// told are the answers of a model that were given out.
type told struct {
	version string
	counts  []uint64
}

// NewSource makes a Source; loaded gives the models that are. publish is given the
// counts of a histogram of answers, and makes those 0 that may not leave; what was held
// back is in a later sample, once it may leave. Nil lets all go.
func NewSource(w *Watch, loaded func() []engine.Description, publish func(counts []uint64) (withheld uint64)) *Source {
	return &Source{watch: w, loaded: loaded, publish: publish, told: map[string]told{}}
}

// Sample implements metrics.Source.
func (s *Source) Sample(time.Time) []metrics.Reading {
	var readings []metrics.Reading
	now := map[string]told{}
	for _, r := range s.watch.Results(s.loaded()) {
		l := metrics.Labels{Model: r.Model, Version: r.Version}
		before := s.told[r.Model]
		if before.version != r.Version || before.counts == nil {
			before = told{r.Version, make([]uint64, len(r.Answers.Counts))}
		}
		since := make([]uint64, len(r.Answers.Counts))
		for i, n := range r.Answers.Counts {
			before.counts[i] = min(before.counts[i], n) // a model of the same version, loaded again, counts from 0
			since[i] = n - before.counts[i]
		}
		if s.publish != nil {
			s.publish(since)
		}
		scores := metrics.Reading{Metric: metrics.Score, Labels: l}
		for i, n := range since {
			if n > 0 {
				before.counts[i] += n
				scores.Values, scores.Counts = append(scores.Values, r.Answers.Middle(i)), append(scores.Counts, float64(n))
			}
		}
		now[r.Model] = before
		readings = append(readings, scores)
		readings = append(readings, ofFeatures(l, r.Features)...)
		if worst := worstPSI(r.Scores); !math.IsNaN(worst) {
			readings = append(readings, metrics.One(metrics.ScorePSI, l, worst))
		}
	}
	s.told = now
	return readings
}

func ofFeatures(l metrics.Labels, features []Feature) (readings []metrics.Reading) {
	if len(features) == 0 {
		return nil
	}
	increase := math.Inf(-1)
	for _, f := range features {
		of := l
		of.Feature = f.Name
		if !math.IsNaN(f.PSI) {
			readings = append(readings, metrics.One(metrics.DriftPSI, of, f.PSI))
		}
		readings = append(readings, metrics.One(metrics.MissingRate, of, f.Missing))
		increase = max(increase, f.Increase)
	}
	readings = append(readings, metrics.One(metrics.MaxMissing, l, increase))
	if worst := worstPSI(features); !math.IsNaN(worst) {
		readings = append(readings, metrics.One(metrics.MaxDriftPSI, l, worst))
	}
	return readings
}

// worstPSI is NaN where none is known.
func worstPSI(features []Feature) float64 {
	worst := math.NaN()
	for _, f := range features {
		if math.IsNaN(worst) || f.PSI > worst {
			worst = f.PSI
		}
	}
	return worst
}

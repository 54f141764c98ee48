package drift

import (
	"math"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/metrics"
)

// Source gives what a Watch knows to whoever samples the daemon's metrics.
type Source struct {
	watch  *Watch
	loaded func() []engine.Description
	seen   map[string]seen
}

// seen are the answers of a model that were given out.
type seen struct {
	version string
	counts  []uint64
}

// NewSource makes a Source; loaded gives the models that are.
func NewSource(w *Watch, loaded func() []engine.Description) *Source {
	return &Source{watch: w, loaded: loaded, seen: map[string]seen{}}
}

// Sample implements metrics.Source.
func (s *Source) Sample(time.Time) []metrics.Reading {
	var readings []metrics.Reading
	now := map[string]seen{}
	for _, r := range s.watch.Results(s.loaded()) {
		l := metrics.Labels{Model: r.Model, Version: r.Version}
		before := s.seen[r.Model]
		if before.version != r.Version {
			before = seen{}
		}
		now[r.Model] = seen{r.Version, r.Answers.Counts}
		scores := metrics.Reading{Metric: metrics.Score, Labels: l}
		for i, n := range r.Answers.Counts {
			if i < len(before.counts) {
				n -= min(before.counts[i], n)
			}
			if n > 0 {
				scores.Values, scores.Counts = append(scores.Values, r.Answers.Middle(i)), append(scores.Counts, float64(n))
			}
		}
		readings = append(readings, scores)
		readings = append(readings, ofFeatures(l, r.Features)...)
		if worst := worstPSI(r.Scores); !math.IsNaN(worst) {
			readings = append(readings, metrics.One(metrics.ScorePSI, l, worst))
		}
	}
	s.seen = now
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

package drift

import (
	"math"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/picket-ml/picket/engine"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picket_model_"+name, help, labels, nil)
}

var (
	driftRows    = desc("drift_rows", "Rows in the window that is compared with the baseline.", "model")
	driftPSI     = desc("drift_psi", "Population stability index of a feature, of the window against the baseline.", "model", "feature")
	missingRatio = desc("missing_ratio", "Part of a feature's values in the window that are missing.", "model", "feature")
	missingMore  = desc("missing_increase", "How much more of a feature's values are missing in the window than in the baseline.", "model", "feature")
	scorePSI     = desc("score_psi", "Population stability index of a score, of the window against the baseline.", "model", "score")
	scores       = desc("score", "The model's answers, of the requests that were looked at.", "model")
)

// Collector gives what a Watch knows to Prometheus.
type Collector struct {
	watch  *Watch
	loaded func() []engine.Description
}

// NewCollector makes a Collector; loaded gives the models that are.
func NewCollector(w *Watch, loaded func() []engine.Description) *Collector {
	return &Collector{w, loaded}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{driftRows, driftPSI, missingRatio, missingMore, scorePSI, scores} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		if !math.IsNaN(v) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
		}
	}
	for _, r := range c.watch.Results(c.loaded()) {
		gauge(driftRows, float64(r.Rows), r.Model)
		for _, f := range r.Features {
			name := strings.ToValidUTF8(f.Name, "\uFFFD")
			gauge(driftPSI, f.PSI, r.Model, name)
			gauge(missingRatio, f.Missing, r.Model, name)
			gauge(missingMore, f.Increase, r.Model, name)
		}
		for _, s := range r.Scores {
			gauge(scorePSI, s.PSI, r.Model, s.Name)
		}
		buckets := make(map[float64]uint64, len(r.Answers.Edges))
		var count uint64
		for i, edge := range r.Answers.Edges {
			count += r.Answers.Counts[i]
			buckets[edge] = count
		}
		count += r.Answers.Counts[len(r.Answers.Edges)]
		to <- prometheus.MustNewConstHistogram(scores, count, r.Answers.Sum, buckets, r.Model)
	}
}

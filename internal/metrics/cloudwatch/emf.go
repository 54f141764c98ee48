package cloudwatch

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/picket-ml/picket/internal/metrics"
)

// maxDirective is how many metrics one directive may name.
const maxDirective = 100

// embedded is the part of a line that CloudWatch Logs looks at.
type embedded struct {
	Timestamp int64       `json:"Timestamp"` // milliseconds
	Metrics   []directive `json:"CloudWatchMetrics"`
}

type directive struct {
	Namespace  string       `json:"Namespace"`
	Dimensions [][]string   `json:"Dimensions"`
	Metrics    []definition `json:"Metrics"`
}

type definition struct {
	Name string       `json:"Name"`
	Unit metrics.Unit `json:"Unit"`
}

// histogram is a metric of several values.
type histogram struct {
	Values []float64 `json:"Values"`
	Counts []float64 `json:"Counts"`
	Max    float64   `json:"Max"`
	Min    float64   `json:"Min"`
	Count  float64   `json:"Count"`
	Sum    float64   `json:"Sum"`
}

// lines writes readings in the embedded metric format: a line for each model, and for
// each of its features.
func (id identity) lines(namespace string, readings []metrics.Reading, at time.Time) ([]byte, error) {
	var groups [][]metrics.Reading
	for i := range readings {
		r := usable(&readings[i])
		if len(r.Values) == 0 {
			continue
		}
		at := slices.IndexFunc(groups, func(g []metrics.Reading) bool {
			return g[0].Labels == r.Labels && sameSets(g[0].Metric.Sets, r.Metric.Sets) && len(g) < maxDirective
		})
		if at < 0 {
			groups = append(groups, []metrics.Reading{r})
		} else {
			groups[at] = append(groups[at], r)
		}
	}
	var text []byte
	for _, g := range groups {
		line, err := json.Marshal(id.line(namespace, g, at))
		if err != nil {
			return nil, fmt.Errorf("writing metrics: %w", err)
		}
		text = append(append(text, line...), '\n')
	}
	return text, nil
}

func sameSets(a, b [][]string) bool {
	return slices.EqualFunc(a, b, slices.Equal[[]string])
}

func (id identity) line(namespace string, group []metrics.Reading, at time.Time) map[string]any {
	line := map[string]any{}
	d := directive{Namespace: namespace}
	for _, set := range group[0].Metric.Sets {
		names := []string{}
		for _, dimension := range id.dimensions(set, group[0].Labels) {
			names = append(names, dimension[0])
			line[dimension[0]] = dimension[1]
		}
		d.Dimensions = append(d.Dimensions, names)
	}
	for _, r := range group {
		d.Metrics = append(d.Metrics, definition{r.Metric.Name, r.Metric.Unit})
		if len(r.Values) == 1 && r.Counts == nil {
			line[r.Metric.Name] = r.Values[0]
			continue
		}
		h := histogram{Values: r.Values, Counts: r.Counts, Max: slices.Max(r.Values), Min: slices.Min(r.Values)}
		if h.Counts == nil {
			h.Counts = slices.Repeat([]float64{1}, len(r.Values))
		}
		for i, v := range h.Values {
			h.Count += h.Counts[i]
			h.Sum += v * h.Counts[i]
		}
		line[r.Metric.Name] = h
	}
	line["_aws"] = embedded{Timestamp: at.UnixMilli(), Metrics: []directive{d}}
	return line
}

// toStdout is the name of a file that is none.
const toStdout = "stdout"

// appendTo writes lines to standard output or to the end of a file. The file is opened
// each time, so whoever rotates logs may just move it.
func appendTo(path string, stdout io.Writer, text []byte) error {
	if path == toStdout {
		if _, err := stdout.Write(text); err != nil {
			return fmt.Errorf("writing metrics: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("writing metrics: %w", err)
	}
	_, err = f.Write(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing metrics: %w", err)
	}
	return nil
}

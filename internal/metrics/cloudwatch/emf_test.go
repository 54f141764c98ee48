package cloudwatch

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/metrics"
)

// A line names every dimension and metric that it promises, and nothing else.
func TestEMF(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	l := metrics.Labels{Model: "fraud", Version: "3"}
	text, err := identity{"f", "d"}.lines("Picket", []metrics.Reading{
		metrics.One(metrics.Requests, l, 7),
		{Metric: metrics.Latency, Labels: l, Values: []float64{10, 20}, Counts: []float64{1, 3}},
		metrics.One(metrics.DriftPSI, metrics.Labels{Model: "fraud", Feature: "amount"}, 0.25),
		metrics.One(metrics.Up, metrics.Labels{}, 1),
	}, at)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	if len(lines) != 3 {
		t.Fatalf("there are %d lines, want 3:\n%s", len(lines), text)
	}
	for _, line := range lines {
		var fields map[string]any
		var head struct {
			AWS embedded `json:"_aws"`
		}
		if json.Unmarshal(line, &fields) != nil || json.Unmarshal(line, &head) != nil || len(head.AWS.Metrics) != 1 {
			t.Fatalf("it is no line of metrics: %s", line)
		}
		d := head.AWS.Metrics[0]
		known := []string{"_aws"}
		for _, set := range d.Dimensions {
			for _, name := range set {
				if _, ok := fields[name].(string); !ok {
					t.Errorf("the dimension %s has no value: %s", name, line)
				}
				known = append(known, name)
			}
		}
		for _, m := range d.Metrics {
			if fields[m.Name] == nil {
				t.Errorf("the metric %s has no value: %s", m.Name, line)
			}
			known = append(known, m.Name)
		}
		for name := range fields {
			if !slices.Contains(known, name) {
				t.Errorf("nobody asked for %s: %s", name, line)
			}
		}
		if head.AWS.Timestamp != at.UnixMilli() || d.Namespace != "Picket" {
			t.Errorf("time and namespace are %d and %s", head.AWS.Timestamp, d.Namespace)
		}
	}
	var first struct {
		Requests float64
		Latency  histogram
	}
	if err := json.Unmarshal(lines[0], &first); err != nil {
		t.Fatal(err)
	}
	if h := first.Latency; first.Requests != 7 || h.Count != 4 || h.Sum != 70 || h.Min != 10 || h.Max != 20 || !slices.Equal(h.Counts, []float64{1, 3}) {
		t.Errorf("the line says %+v", first)
	}
}

// A file that was moved away is begun again.
func TestEMFFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.log")
	for range 2 {
		if err := appendTo(path, nil, []byte("x\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := appendTo(path, nil, []byte("y\n")); err != nil {
		t.Fatal(err)
	}
	old, _ := os.ReadFile(path + ".1")
	fresh, _ := os.ReadFile(path)
	if string(old) != "x\nx\n" || string(fresh) != "y\n" {
		t.Errorf("the files are %q and %q", old, fresh)
	}
	if err := appendTo(filepath.Join(path, "below"), nil, nil); err == nil {
		t.Error("a file below a file was written")
	}
	var out bytes.Buffer
	if err := appendTo(toStdout, &out, []byte("z\n")); err != nil || out.String() != "z\n" {
		t.Errorf("standard output has %q: %v", out.String(), err)
	}
}

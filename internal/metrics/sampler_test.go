package metrics_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/metrics"
)

func predict(t *testing.T, e *engine.Engine, rows int) error {
	t.Helper()
	m, err := e.Acquire("m")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	r, err := m.NewRequest(rows)
	if err != nil {
		m.Refused(err)
		return err
	}
	defer r.Release()
	return r.Predict(t.Context())
}

// sums are the readings of a sample by name: values times counts, and counts.
func sums(t *testing.T, readings []metrics.Reading) (sum, count map[string]float64) {
	t.Helper()
	sum, count = map[string]float64{}, map[string]float64{}
	for _, r := range readings {
		for i, v := range r.Values {
			n := 1.0
			if r.Counts != nil {
				n = r.Counts[i]
			}
			if n <= 0 || math.IsNaN(v) {
				t.Errorf("%s has the value %v %v times", r.Metric.Name, v, n)
			}
			sum[r.Metric.Name] += v * n
			count[r.Metric.Name] += n
		}
	}
	return sum, count
}

// A sample is what happened since the one before, and a model that takes another's
// place begins at 0.
func TestSamples(t *testing.T) {
	fail := false
	e := enginetest.NewEngine(t, enginetest.Script{OnRun: func(int) error {
		if fail {
			return errors.New("broken")
		}
		return nil
	}}, engine.Options{})
	s := metrics.NewSampler(e)
	if sum, _ := sums(t, s.Sample(time.Now())); sum["Up"] != 1 || sum["LoadedModels"] != 0 {
		t.Errorf("without a model the sample is %v", sum)
	}
	if _, err := e.Load(t.Context(), "m", "m", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := predict(t, e, 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := predict(t, e, -1); err == nil {
		t.Fatal("a request of -1 rows was taken")
	}
	sum, count := sums(t, s.Sample(time.Now()))
	want := map[string]float64{"LoadedModels": 1, "Requests": 11, "FailedRequests": 0, "InvalidRequests": 1, "RefusedRequests": 0, "Rows": 30, "BatchRows": 30, "WaitingRequests": 0}
	for name, v := range want {
		if sum[name] != v {
			t.Errorf("%s is %v, want %v", name, sum[name], v)
		}
	}
	if count["Latency"] != 10 || count["BatchRows"] != 10 || count["RunTime"] != 10 || sum["Latency"] <= 0 {
		t.Errorf("there are %v latencies of together %v µs, and %v runs", count["Latency"], sum["Latency"], count["RunTime"])
	}
	fail = true
	if err := predict(t, e, 1); err == nil {
		t.Fatal("a run that fails gave an answer")
	}
	fail = false
	if sum, _ = sums(t, s.Sample(time.Now())); sum["Requests"] != 1 || sum["FailedRequests"] != 1 || sum["Rows"] != 0 {
		t.Errorf("the sample after a failure is %v", sum)
	}
	if _, err := e.Replace(t.Context(), "m", "m", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := predict(t, e, 1); err != nil {
		t.Fatal(err)
	}
	if sum, _ = sums(t, s.Sample(time.Now())); sum["Requests"] != 1 || sum["FailedRequests"] != 0 {
		t.Errorf("the sample after a replacement is %v", sum)
	}
}

// The table has each name once, and each metric something to be told apart by.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range metrics.All() {
		if seen[m.Name] || m.Help == "" || len(m.Sets) == 0 {
			t.Errorf("%+v", m)
		}
		seen[m.Name] = true
	}
}

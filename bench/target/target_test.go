package target

import (
	"strings"
	"testing"
)

// TestPhases reads the sums and counts of one model out of Prometheus's text.
func TestPhases(t *testing.T) {
	t.Parallel()
	text := `# TYPE picket_model_duration_seconds histogram
picket_model_duration_seconds_bucket{model="a",phase="queue",le="0.1"} 4
picket_model_duration_seconds_sum{model="a",phase="queue"} 0.5
picket_model_duration_seconds_count{model="a",phase="queue"} 4
picket_model_duration_seconds_sum{model="a",phase="run"} 1.5e-3
picket_model_duration_seconds_count{model="a",phase="run"} 5
picket_model_duration_seconds_sum{model="ab",phase="run"} 9
picket_other_sum{model="a",phase="run"} 9
`
	times, err := phases(strings.NewReader(text), "a")
	if err != nil {
		t.Fatal(err)
	}
	if len(times) != 2 || times["queue"].Seconds != 0.5 || times["queue"].Count != 4 || times["run"].Seconds != 0.0015 || times["run"].Count != 5 {
		t.Errorf("the phases are %v", times)
	}
	if _, err := phases(strings.NewReader(`picket_model_duration_seconds_sum{model="a",phase="run"} x`), "a"); err == nil {
		t.Error("a damaged line is read")
	}
}

// TestName tells ways to serve a model apart.
func TestName(t *testing.T) {
	t.Parallel()
	m := &Model{}
	m.Name = "m"
	seen := map[string]bool{}
	for _, s := range []Served{{m, "", 0, 0}, {m, "forest", 0, 0}, {m, "", 4, 0}, {m, "", 0, 4}, {m, "forest", 4, 8}} {
		if name := s.Name(); seen[name] || strings.ContainsAny(name, " /") {
			t.Errorf("%+v is served as %q", s, name)
		} else {
			seen[name] = true
		}
	}
}

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/bench/report"
)

// TestBenchRun runs the local suite in its quick form on a real picketd, and reads its result.
func TestBenchRun(t *testing.T) {
	t.Parallel()
	picketd, err := buildPicketd()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "result.json")
	r := picket(t, "", "bench", "run", "local", "--quick", "--targets", "empty,engine,lane,ring,oip-http", "--picketd", picketd, "--family", "m5", "-o", file, "--format", "benchstat")
	if r.code != exitDone {
		t.Fatalf("it ends with %d: %s", r.code, r.stderr)
	}
	result, err := report.ReadResult(file)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string][]string{}
	for i := range result.Runs {
		run := &result.Runs[i]
		have[run.Scenario] = append(have[run.Scenario], run.Target)
		for _, rep := range run.Repetitions {
			if rep.Counts.Wrong != 0 || rep.Counts.Failed != 0 {
				t.Errorf("%s: %+v, %v", run.Key(), rep.Counts, run.Verdict.Why)
			}
		}
	}
	for scenario, targets := range map[string][]string{
		"SingleStream": {"empty", "engine", "lane", "oip-http", "ring"}, "MultiStream": {"engine", "lane", "oip-http", "ring"}, "Offline": {"engine", "lane"},
		"Burst": {"lane"}, "Overload": {"lane"}, "Swap": {"lane"}, "Mixed": {"lane"}, "Capture": {"lane"}, "ColdStart": {"lane"}, "Soak": {"lane"},
	} {
		for _, target := range targets {
			if !slices.Contains(have[scenario], target) {
				t.Errorf("scenario %s was measured of %v, without %s; left out: %v", scenario, have[scenario], target, result.LeftOut)
			}
		}
	}
	if !result.Suite.Quick || !slices.ContainsFunc(result.Marks, func(m string) bool { return strings.Contains(m, "measures nothing") }) {
		t.Errorf("a quick run is marked %q", result.Marks)
	}
	if !strings.Contains(r.stdout, "BenchmarkSingleStream/model=forest-500x6x30/target=lane/rows=1/") {
		t.Errorf("for benchstat there is %.500s", r.stdout)
	}
}

// TestBenchRunRefuses says what is wrong with a command before anything is measured.
func TestBenchRunRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "which suite"},
		{[]string{"m6"}, exitUsage, `no suite "m6"`},
		{[]string{"local", "--scenarios", "Stream"}, exitUsage, `no scenario "Stream"`},
		{[]string{"local", "--format", "xml"}, exitUsage, "xml"},
		{[]string{"local", "--duration", "-1s"}, exitUsage, "below 0"},
		{[]string{"local", "--mask", "warp", "--picketd", "/bin/true"}, exitFailed, "warp"},
		{[]string{"local", "--picketd", "/bin/false", "--quick", "--targets", "lane", "--scenarios", "SingleStream"}, exitFailed, "picketd"},
	} {
		if r := picket(t, "", append([]string{"bench", "run"}, c.args...)...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("picket bench run %v ends with %d: %s; want %d, %q", c.args, r.code, r.stderr, c.code, c.want)
		}
	}
	if r := picket(t, "", "bench", "run", "--list"); r.code != exitDone || !strings.Contains(r.stdout, "g4dn") {
		t.Errorf("the list of suites is %q, %s", r.stdout, r.stderr)
	}
}

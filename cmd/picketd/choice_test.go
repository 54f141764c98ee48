//go:build cgo && linux

package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging/compile"
)

// compiledModel is an artifact that `picket compile` makes of the model of these tests.
func compiledModel(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "fraud")
	if _, err := compile.Run(t.Context(), compile.Options{Source: testkit.Path(t, testkit.ModelNamed(t, "fraud-1.7.6").Files[0]), Out: dir}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// explain is what the daemon says of a model, by backend.
func (p *process) explain(t *testing.T, name string) (chosen string, by map[string]*controlapi.Candidate) {
	t.Helper()
	e, err := p.control.Explain(t.Context(), &controlapi.ExplainRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	by = map[string]*controlapi.Candidate{}
	for _, c := range e.GetCandidates() {
		by[c.GetBackend()] = c
		if c.GetChosen() != (c.GetBackend() == e.GetChosen()) {
			t.Errorf("%s is chosen, and of %s it says %v", e.GetChosen(), c.GetBackend(), c)
		}
	}
	return e.GetChosen(), by
}

// checkTimed wants forest and treelite to have been timed and one of them to be chosen, whichever is the faster on this
// machine today, and libdlr not to have been touched. It returns what was measured.
func (p *process) checkTimed(t *testing.T, name, when string) (chosen string, us map[string]float64) {
	t.Helper()
	chosen, by := p.explain(t, name)
	us = map[string]float64{}
	for _, backend := range []string{"forest", "treelite"} {
		c := by[backend]
		us[backend] = c.GetUsPerRow()
		reason, ended := strings.CutSuffix(c.GetReason(), when)
		says := "slower ("
		if backend == chosen {
			says = "chosen: the fastest of 2 with 1 row a request"
		}
		// Of two that are as fast, the better match is kept.
		tie := backend == "treelite" && strings.HasPrefix(reason, "not clearly faster (")
		if c.GetUsPerRow() <= 0 || c.GetVariant() == "" || !ended || !strings.HasPrefix(reason, says) && !tie {
			t.Errorf("%s says of %s: %v", p.path, backend, c)
		}
	}
	if chosen != "forest" && chosen != "treelite" {
		t.Errorf("%s was chosen", chosen)
	}
	if c := by["dlr"]; !strings.Contains(c.GetReason(), "last resort") || c.UsPerRow != nil {
		t.Errorf("of libdlr it says %v", c)
	}
	return chosen, us
}

// TestChoosesTheFastest: an artifact with its source model can be run in two ways, which are timed, and a daemon that
// starts again with the same state directory remembers the outcome.
func TestChoosesTheFastest(t *testing.T) {
	dir, state := compiledModel(t), filepath.Join(t.TempDir(), "state")
	first := startDaemon(t, t.TempDir(), "--unsigned", "--state", state, "--model", "fraud="+dir)
	chosen, measured := first.checkTimed(t, "fraud", "")
	first.checkScores(t, "fraud", 1000)
	first.stop(t)

	files, err := filepath.Glob(filepath.Join(state, "decisions", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the state directory holds %v, %v", files, err)
	}
	second := startDaemon(t, t.TempDir(), "--unsigned", "--state", state, "--model", "fraud="+dir)
	_, by := second.explain(t, "fraud")
	reason := by[chosen].GetReason()
	on := reason[strings.LastIndex(reason, ", measured on "):]
	again, remembered := second.checkTimed(t, "fraud", on)
	for backend, us := range measured {
		if math.Abs(remembered[backend]-us) > 0 || again != chosen {
			t.Errorf("%s: measured %v, remembered %v; chose %s, then %s", backend, us, remembered[backend], chosen, again)
		}
	}
	if strings.Contains(second.stderr.String(), "backends were timed") {
		t.Errorf("the backends were timed again:\n%s", &second.stderr)
	}
	second.checkScores(t, "fraud", 1000)

	// Another artifact at the same place is another decision.
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("copied by hand"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := second.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "other", Url: dir}); err != nil {
		t.Fatal(err)
	}
	second.checkTimed(t, "other", "")
	second.stop(t)

	// A state directory that is none is said, and the daemon serves.
	third := startDaemon(t, t.TempDir(), "--unsigned", "--state", files[0], "--model", "fraud="+dir)
	third.checkTimed(t, "fraud", "")
	if !strings.Contains(third.stderr.String(), "the state directory cannot be used") {
		t.Errorf("the log does not say it:\n%s", &third.stderr)
	}
	third.stop(t)
}

// TestForcedBackendOfAnArtifactWithItsSource is taken untimed, and a model file that is not the library's is left alone.
func TestForcedBackendOfAnArtifactWithItsSource(t *testing.T) {
	dir := compiledModel(t)
	file := filepath.Join(t.TempDir(), "c.yaml")
	config := fmt.Sprintf("unsigned: true\nmodels:\n- {name: a, path: %s, backend: treelite}\n- {name: b, path: %s, backend: forest}\n", dir, dir)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startDaemon(t, t.TempDir(), "-c", file)
	for name, want := range map[string]string{"a": "treelite", "b": "forest"} {
		if chosen, by := p.explain(t, name); chosen != want || by[want].GetReason() != "chosen: it was asked for" {
			t.Errorf("%s is run by %s: %v", name, chosen, by[want])
		}
		p.checkScores(t, name, 100)
	}
	sources, err := filepath.Glob(filepath.Join(dir, "source_model.*"))
	if err != nil || len(sources) != 1 {
		t.Fatalf("%v, %v", sources, err)
	}
	f, err := os.OpenFile(sources[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(" "); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "edited", Url: dir}); err != nil {
		t.Fatal(err)
	}
	if chosen, by := p.explain(t, "edited"); chosen != "treelite" || !strings.Contains(by["forest"].GetReason(), "is not the model that compiled.so was compiled from") {
		t.Errorf("%s runs it, and of forest it says %v", chosen, by["forest"])
	}
	p.checkScores(t, "edited", 100)

	// Where nothing says whose model file it is, agreeing on some rows is not enough to run it.
	meta := filepath.Join(dir, "compiled.meta")
	text, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(meta, bytes.Replace(text, []byte(`"SourceSHA256"`), []byte(`"Unknown"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "unknown", Url: dir}); err != nil {
		t.Fatal(err)
	}
	if chosen, by := p.explain(t, "unknown"); chosen != "treelite" || !strings.Contains(by["forest"].GetReason(), "last resort") || by["forest"].UsPerRow != nil {
		t.Errorf("%s runs it, and of forest it says %v", chosen, by["forest"])
	}
	p.stop(t)
}

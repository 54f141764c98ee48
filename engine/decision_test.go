package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
)

// notebook is a memory of decisions.
type notebook struct {
	mu      sync.Mutex
	entries map[string]engine.Decision
	err     error // of everything that is asked
}

func (n *notebook) Recall(key string) (*engine.Decision, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d, ok := n.entries[key]; ok && n.err == nil {
		d.Candidates = slices.Clone(d.Candidates)
		return &d, nil
	}
	return nil, n.err
}

func (n *notebook) Remember(key string, d engine.Decision) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.entries[key] = d
	}
	return n.err
}

// only is the one entry.
func (n *notebook) only(t testing.TB) (key string, d engine.Decision) {
	t.Helper()
	if len(n.entries) != 1 {
		t.Fatalf("%d decisions are remembered, want 1", len(n.entries))
	}
	for key, d = range n.entries {
	}
	return key, d
}

// remembering is an engine over a folder with a file, two backends and a memory.
type remembering struct {
	*engine.Engine
	slow, fast *enginetest.Backend
	log        bytes.Buffer
}

func startRemembering(t testing.TB, dir string, memory engine.Decisions, o engine.Options, fast enginetest.Script) *remembering {
	t.Helper()
	fast.Name, fast.Properties.Variant = "fast", "v4"
	var w watch
	r := &remembering{slow: enginetest.New(w.takes(enginetest.Script{Name: "slow", Match: 105}, 10*us, 0)), fast: enginetest.New(w.takes(fast, us, 0))}
	o.Source, o.Decisions, o.Backends = enginetest.Source{Dir: dir}, memory, []engine.Backend{r.fast, r.slow}
	o.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	if o.Host == nil {
		o.Host = &hw.Host{CPU: hw.CPU{CoresAllowed: 2}}
	}
	e, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = e
	e.SetClock(w.ns.Load)
	t.Cleanup(func() {
		if err := e.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return r
}

func (r *remembering) loadOnce(t testing.TB, o engine.ModelOptions) engine.Description {
	t.Helper()
	d, err := r.Load(t.Context(), "m", "somewhere", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Unload(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	return d
}

// artifactOf is a folder with these files.
func artifactOf(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDecisionIsRemembered: the second load opens the chosen backend alone and says of the other what was measured, when.
func TestDecisionIsRemembered(t *testing.T) {
	memory := &notebook{entries: map[string]engine.Decision{}}
	dir := artifactOf(t, map[string]string{"model": "trees", "meta": "{}"})
	first := startRemembering(t, dir, memory, engine.Options{}, enginetest.Script{})
	before := first.loadOnce(t, engine.ModelOptions{})
	checkReasons(t, before, "fast", map[string]string{"fast": "chosen: the fastest of 2 with 1 row a request", "slow": "slower ("})
	_, d := memory.only(t)
	if age := time.Since(d.Time); age < 0 || age > time.Hour || len(d.Candidates) != 2 {
		t.Errorf("remembered %+v", d)
	}

	second := startRemembering(t, dir, memory, engine.Options{}, enginetest.Script{})
	after := second.loadOnce(t, engine.ModelOptions{})
	on := ", measured on " + d.Time.Format(time.DateOnly)
	checkReasons(t, after, "fast", map[string]string{
		"fast": "chosen: the fastest of 2 with 1 row a request" + on, "slow": candidate(t, before, "slow").Reason + on})
	for _, name := range []string{"slow", "fast"} {
		if x, y := candidate(t, before, name), candidate(t, after, name); x.USPerRow != y.USPerRow || x.Variant != y.Variant {
			t.Errorf("measured %+v, remembered %+v", x, y)
		}
	}
	if second.slow.Opened() != 0 || second.fast.Opened() != 1 {
		t.Errorf("the slow one was opened %d times, the fast one %d times", second.slow.Opened(), second.fast.Opened())
	}
	again := second.loadOnce(t, engine.ModelOptions{}) // dates do not pile up
	checkReasons(t, again, "fast", map[string]string{"slow": candidate(t, after, "slow").Reason})
	second.loadOnce(t, engine.ModelOptions{Backend: "slow"})
	if len(memory.entries) != 1 {
		t.Error("a forced backend was remembered")
	}
}

// TestDecisionDependsOn: what changes the outcome changes the key.
func TestDecisionDependsOn(t *testing.T) {
	memory := &notebook{entries: map[string]engine.Decision{}}
	files := map[string]string{"model": "trees", "meta": "{}"}
	host := &hw.Host{CPU: hw.CPU{CoresAllowed: 2, Model: "another"}}
	for n, c := range []struct {
		files map[string]string
		o     engine.Options
		m     engine.ModelOptions
	}{
		{files, engine.Options{}, engine.ModelOptions{}},
		{map[string]string{"model": "tree", "meta": "{}"}, engine.Options{}, engine.ModelOptions{}},
		{map[string]string{"model": "trees", "meto": "{}"}, engine.Options{}, engine.ModelOptions{}},
		{map[string]string{"model": "trees"}, engine.Options{}, engine.ModelOptions{}},
		{files, engine.Options{Host: host}, engine.ModelOptions{}},
		{files, engine.Options{Version: "2"}, engine.ModelOptions{}},
		{files, engine.Options{}, engine.ModelOptions{ExpectedRows: 2}},
		{files, engine.Options{}, engine.ModelOptions{Threads: 1}},
	} {
		for range 2 {
			r := startRemembering(t, artifactOf(t, c.files), memory, c.o, enginetest.Script{})
			r.loadOnce(t, c.m)
			if len(memory.entries) != n+1 {
				t.Errorf("case %d: %d decisions, want %d", n, len(memory.entries), n+1)
			}
		}
	}
	for key := range maps.Keys(memory.entries) {
		if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
			t.Errorf("the key %q is of another form", key)
		}
	}
}

// TestDamagedDecision is not believed: backends are timed again and the log says why.
func TestDamagedDecision(t *testing.T) {
	dir := artifactOf(t, map[string]string{"model": "trees"})
	for name, alter := range map[string]func(*engine.Decision){
		"no time":           func(d *engine.Decision) { d.Time = time.Time{} },
		"nobody":            func(d *engine.Decision) { d.Candidates = nil },
		"one":               func(d *engine.Decision) { d.Candidates = d.Candidates[:1] },
		"another order":     func(d *engine.Decision) { slices.Reverse(d.Candidates) },
		"unknown":           func(d *engine.Decision) { d.Candidates[0].Backend = "../x" },
		"none chosen":       func(d *engine.Decision) { d.Candidates[1].Chosen = false },
		"both chosen":       func(d *engine.Decision) { d.Candidates[0].Chosen = true },
		"negative time":     func(d *engine.Decision) { d.Candidates[0].USPerRow = -1 },
		"not a number":      func(d *engine.Decision) { d.Candidates[0].USPerRow = math.NaN() },
		"endless":           func(d *engine.Decision) { d.Candidates[0].USPerRow = math.Inf(1) },
		"no reason":         func(d *engine.Decision) { d.Candidates[0].Reason = "" },
		"a terminal's":      func(d *engine.Decision) { d.Candidates[0].Reason = "\x1b[2J" },
		"long reason":       func(d *engine.Decision) { d.Candidates[0].Reason = strings.Repeat("a", 5000) },
		"not text":          func(d *engine.Decision) { d.Candidates[0].Variant = "\xff" },
		"lines of a forger": func(d *engine.Decision) { d.Candidates[1].Variant = "v4\nfake" },
	} {
		t.Run(name, func(t *testing.T) {
			memory := &notebook{entries: map[string]engine.Decision{}}
			startRemembering(t, dir, memory, engine.Options{}, enginetest.Script{}).loadOnce(t, engine.ModelOptions{})
			key, d := memory.only(t)
			alter(&d)
			memory.entries[key] = d
			r := startRemembering(t, dir, memory, engine.Options{}, enginetest.Script{})
			got := r.loadOnce(t, engine.ModelOptions{})
			if got.Backend != "fast" || strings.Contains(got.Candidates[0].Reason, "measured on") || r.slow.Opened() != 1 {
				t.Errorf("chose %+v, opened the slow one %d times", got.Candidates[0], r.slow.Opened())
			}
			if !strings.Contains(r.log.String(), "the remembered decision is of no use") {
				t.Errorf("the log does not say it: %s", &r.log)
			}
			if _, mended := memory.only(t); mended.Time.IsZero() || len(mended.Candidates) != 2 {
				t.Errorf("remembered %+v", mended)
			}
		})
	}
}

// TestMemoryThatFails costs the timing, not the load.
func TestMemoryThatFails(t *testing.T) {
	memory := &notebook{entries: map[string]engine.Decision{}, err: errors.New("the disk is full")}
	r := startRemembering(t, artifactOf(t, map[string]string{"model": "trees"}), memory, engine.Options{}, enginetest.Script{})
	checkReasons(t, r.loadOnce(t, engine.ModelOptions{}), "fast", map[string]string{"slow": "slower ("})
	if n := strings.Count(r.log.String(), "the disk is full"); n != 2 {
		t.Errorf("the log says %d times, want 2, that the disk is full: %s", n, &r.log)
	}
}

// TestRememberedBackendThatFails: it no longer opens or starts, so the others are looked at again.
func TestRememberedBackendThatFails(t *testing.T) {
	dir := artifactOf(t, map[string]string{"model": "trees"})
	for name, c := range map[string]struct {
		script enginetest.Script
		says   string
	}{
		"open":     {enginetest.Script{Open: errUnsupported}, "no code for"},
		"damaged":  {enginetest.Script{Open: engine.ErrArtifact}, "unusable artifact"},
		"instance": {enginetest.Script{Instance: errors.New("no instance for you")}, "no instance for you"},
	} {
		t.Run(name, func(t *testing.T) {
			memory := &notebook{entries: map[string]engine.Decision{}}
			startRemembering(t, dir, memory, engine.Options{}, enginetest.Script{}).loadOnce(t, engine.ModelOptions{})
			r := startRemembering(t, dir, memory, engine.Options{}, c.script)
			checkReasons(t, r.loadOnce(t, engine.ModelOptions{}), "slow", map[string]string{"slow": "chosen: it matches", "fast": c.says})
			if !strings.Contains(r.log.String(), "the remembered one cannot be used") {
				t.Errorf("the log does not say it: %s", &r.log)
			}
			for _, b := range []*enginetest.Backend{r.slow, r.fast} {
				if models, instances := b.Live(); models != 0 || instances != 0 || len(b.Violations()) != 0 {
					t.Errorf("of %s %d models and %d instances are open; %v", b.Name(), models, instances, b.Violations())
				}
			}
		})
	}
}

// rewriting is a backend in whose Open somebody puts another file into the artifact's folder.
type rewriting struct {
	*enginetest.Backend
	t    testing.TB
	path string
	text string
}

func (r rewriting) Open(ctx context.Context, a *engine.Artifact, o engine.OpenOptions) (engine.Model, error) {
	if err := errors.Join(os.WriteFile(r.path+".new", []byte(r.text), 0o600), os.Rename(r.path+".new", r.path)); err != nil {
		r.t.Error(err)
	}
	return r.Backend.Open(ctx, a, o)
}

// TestArtifactThatChanges between the reading of its digests and the opening of its files: what was found is of another
// artifact than the digests.
func TestArtifactThatChanges(t *testing.T) {
	dir := artifactOf(t, map[string]string{"model": "trees"})
	memory := &notebook{entries: map[string]engine.Decision{}}
	startRemembering(t, dir, memory, engine.Options{}, enginetest.Script{}).loadOnce(t, engine.ModelOptions{})
	key, _ := memory.only(t)
	for _, remembered := range []bool{false, true} {
		if !remembered {
			clear(memory.entries)
		}
		var log bytes.Buffer
		fast, slow := enginetest.New(enginetest.Script{Name: "fast"}), enginetest.New(enginetest.Script{Name: "slow", Match: 105})
		e, err := engine.New(engine.Options{
			Source: enginetest.Source{Dir: dir}, Decisions: memory, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Host:     &hw.Host{CPU: hw.CPU{CoresAllowed: 2}},
			Backends: []engine.Backend{rewriting{fast, t, filepath.Join(dir, "model"), "tree"}, slow},
		})
		if err != nil {
			t.Fatal(err)
		}
		var before engine.Decision
		if remembered {
			startRemembering(t, dir, memory, engine.Options{}, enginetest.Script{}).loadOnce(t, engine.ModelOptions{})
			for k, d := range memory.entries {
				key, before = k, d
			}
		}
		d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
		if err != nil || slow.Opened() != 1 || strings.Contains(candidate(t, d, "slow").Reason, "measured on") {
			t.Errorf("remembered %v: %+v, %v", remembered, d.Candidates, err)
		}
		if after, ok := memory.entries[key]; ok != remembered || remembered && !after.Time.Equal(before.Time) || len(memory.entries) > 1 {
			t.Errorf("remembered %v: now %+v", remembered, memory.entries)
		}
		if !strings.Contains(log.String(), "model was changed while the model was being loaded") {
			t.Errorf("remembered %v: the log does not say it: %s", remembered, &log)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if models, instances := fast.Live(); models != 0 || instances != 0 {
			t.Errorf("%d models and %d instances are open", models, instances)
		}
	}
}

// TestWhatIsRemembered: what follows from the artifact, and not what may go better the next time.
func TestWhatIsRemembered(t *testing.T) {
	dir := artifactOf(t, map[string]string{"model": "trees"})
	for name, c := range map[string]struct {
		script enginetest.Script
		want   string // of what is remembered of that backend; empty: nothing
	}{
		"unsupported":  {enginetest.Script{Open: errUnsupported}, ""}, // one is left, and nothing to be timed
		"differs":      {enginetest.Script{Bias: 1}, "its answers differ"},
		"other shape":  {enginetest.Script{Signature: oddSignature}, "other tensors"},
		"out of space": {enginetest.Script{Open: engine.ErrMemory}, ""},
		"no instance":  {enginetest.Script{Instance: engine.ErrMemory}, ""},
		"fails":        {enginetest.Script{OnRun: func(int) error { return errors.New("out of paper") }}, ""},
	} {
		memory := &notebook{entries: map[string]engine.Decision{}}
		r := startRemembering(t, dir, memory, engine.Options{}, c.script)
		if d := r.loadOnce(t, engine.ModelOptions{}); d.Backend != "slow" {
			t.Errorf("%s: chose %s", name, d.Backend)
		}
		if c.want == "" {
			if len(memory.entries) != 0 {
				t.Errorf("%s: remembered %+v", name, memory.entries)
			}
			continue
		}
		if _, d := memory.only(t); !strings.Contains(d.Candidates[1].Reason, c.want) {
			t.Errorf("%s: remembered %+v", name, d)
		}
		again := startRemembering(t, dir, memory, engine.Options{}, c.script)
		checkReasons(t, again.loadOnce(t, engine.ModelOptions{}), "slow", map[string]string{"fast": ", found on "})
	}
}
